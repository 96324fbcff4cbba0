"""The kinds of training records, as typed values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

DatasetKind = Literal["text", "instruction", "messages", "choices"]


@dataclass(frozen=True, slots=True)
class TextRecord:
    """A document, or one paragraph of a longer text."""

    text: str


@dataclass(frozen=True, slots=True)
class InstructionRecord:
    """An instruction, its input (may be empty) and the wanted output."""

    instruction: str
    input: str
    output: str


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a conversation."""

    role: str
    content: str


@dataclass(frozen=True, slots=True)
class MessagesRecord:
    """A conversation with at least one turn of the assistant."""

    messages: tuple[Message, ...]


@dataclass(frozen=True, slots=True)
class ChoicesRecord:
    """A context and its possible continuations; ``label`` is the index of the right one."""

    context: str
    choices: tuple[str, ...]
    label: int


Record = TextRecord | InstructionRecord | MessagesRecord | ChoicesRecord


@dataclass(frozen=True)
class TextDataset:
    """Records of one kind.

    ``is_prose``: the records are consecutive paragraphs of running text rather than documents of their own.
    ``bytes``, ``sha256``: of the files as they were read, in order.
    """

    kind: DatasetKind
    records: tuple[Record, ...]
    is_prose: bool
    bytes: int
    sha256: str

"""The kinds of training records, as typed values."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

DatasetKind = Literal["text", "instruction", "messages", "choices"]


@dataclass(frozen=True, slots=True)
class TextRecord:
    """A document, or a part of a longer text that continues after ``end``."""

    text: str
    end: str = "\n\n"


@dataclass(frozen=True, slots=True)
class InstructionRecord:
    """An instruction, its input (may be empty) and the wanted output.

    ``system``: the system message, or "". ``history``: earlier questions and answers.
    """

    instruction: str
    input: str
    output: str
    system: str = ""
    history: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a conversation. ``extra``: JSON object of other fields that templates read, such as tool calls."""

    role: str
    content: str
    extra: str = ""


@dataclass(frozen=True, slots=True)
class MessagesRecord:
    """A conversation with at least one turn of the assistant. ``tools``: JSON list of callable tools."""

    messages: tuple[Message, ...]
    tools: str = ""


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

    ``is_prose``: the records are consecutive paragraphs of running text, not separate documents. ``bytes``, ``sha256``:
    of the files as read, in order. ``warnings``: records left out or not used.
    """

    kind: DatasetKind
    records: tuple[Record, ...]
    is_prose: bool
    bytes: int
    sha256: str
    warnings: tuple[str, ...] = ()


def running_text(records: Iterable[Record]) -> str:
    """The joined text of consecutive parts of prose."""
    return "".join(record.text + record.end for record in records if isinstance(record, TextRecord))

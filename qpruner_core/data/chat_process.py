"""Renders conversations with a model's chat template, within limits of time and memory."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from types import TracebackType
from typing import Any

from transformers import PreTrainedTokenizerBase

from qpruner_core.data.limits import LONGEST_RECORD
from qpruner_core.errors import CorruptModelError, UnsafeModelError
from qpruner_core.sizes import format_bytes

_WORKER = Path(__file__).with_name("chat_worker.py")
_BATCH_CHATS = 64
_BATCH_BYTES = 2**20
_LONGEST_REPLY = 8 * LONGEST_RECORD
_SECONDS_PER_CHAT = 0.05
_SECONDS_PER_BYTE = 1e-5
_LONGEST_WAIT = 600  # seconds for one batch, however little processor time the process gets


@dataclass(frozen=True)
class TemplateLimits:
    """Limits of a template: seconds of processor time beyond those per conversation, and bytes."""

    seconds: float = 30
    memory: int = 2**29


@dataclass(frozen=True)
class Rendered:
    """A conversation as text, with the spans of characters to learn. ``error`` is set if there is no text.

    ``lost``: answers that were not found in the text. ``folded``: the system message is part of the user's message.
    ``leaves_out``: a tool, a question or the thoughts of the last answer are missing from the text.
    """

    text: str = ""
    spans: tuple[tuple[int, int], ...] = ()
    lost: int = 0
    folded: bool = False
    leaves_out: bool = False
    error: str = ""


def template_name(tokenizer: PreTrainedTokenizerBase, *, with_tools: bool = False) -> str | None:
    """Key in :func:`templates_of` of the template that transformers uses, or ``None`` if there is none.

    Raises:
        CorruptModelError: there are several named templates and no default.
    """
    names = list(templates_of(tokenizer))
    if with_tools and "tool_use" in names:
        return "tool_use"
    if "default" in names or not names:
        return "default" if names else None
    if len(names) == 1:
        return names[0]
    raise CorruptModelError(
        f"The model has the chat templates {', '.join(map(repr, names[:5]))}, but none named 'default'.",
        field="model",
        remedy="Name one of them 'default' in tokenizer_config.json, or in additional_chat_templates.",
    )


def templates_of(tokenizer: PreTrainedTokenizerBase) -> dict[str, str]:
    """Chat templates of the tokenizer by name; a single one is the default."""
    template: Any = tokenizer.chat_template
    if isinstance(template, list):
        template = {one["name"]: one["template"] for one in template}
    if not isinstance(template, dict):
        template = {"default": template}
    return {str(name): str(text) for name, text in template.items() if text}


class ChatProcess:
    """A process that renders with the templates of ``tokenizer`` on the date ``day``. Starts on first use.

    Use it as a context manager. The texts are those of ``tokenizer.apply_chat_template``, except that a template that
    requests today's date gets ``day``.
    """

    def __init__(
        self, tokenizer: PreTrainedTokenizerBase, day: date, limits: TemplateLimits = TemplateLimits()
    ) -> None:
        self._setup = {
            "templates": templates_of(tokenizer),
            "variables": {
                name: list(map(str, token)) if isinstance(token, list) else str(token)
                for name, token in tokenizer.special_tokens_map.items()
            },
            "date": day.isoformat(),
            "memory": limits.memory,
            "seconds": limits.seconds,
            "longest": LONGEST_RECORD,
        }
        self._process: subprocess.Popen[bytes] | None = None
        self._seconds = 0.0

    def __enter__(self) -> ChatProcess:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.communicate()

    def render(self, chats: Iterable[Mapping[str, Any]]) -> Iterator[Rendered]:
        """Render each of ``chats``, in order: ``messages``, name of a ``template``, and optionally ``tools``.

        Raises:
            CorruptModelError: a template does not compile.
            UnsafeModelError: a template exceeds its time or memory.
        """
        batch: list[Mapping[str, Any]] = []
        size = 0
        for chat in chats:
            batch.append(chat)
            size += len(json.dumps(chat))
            if len(batch) == _BATCH_CHATS or size > _BATCH_BYTES:
                yield from self._render(batch, size)
                batch, size = [], 0
        if batch:
            yield from self._render(batch, size)

    def _render(self, batch: Sequence[Mapping[str, Any]], size: int) -> Iterator[Rendered]:
        self._seconds += len(batch) * _SECONDS_PER_CHAT + size * _SECONDS_PER_BYTE
        for reply in self._ask({"seconds": self._seconds, "chats": batch}):
            spans = tuple((start, end) for start, end in reply.pop("spans", ()))
            yield Rendered(spans=spans, **reply)

    def _ask(self, request: Mapping[str, Any]) -> Any:
        if self._process is None:
            # Not from its own folder: names of modules there shadow common ones
            self._process = subprocess.Popen(  # noqa: S603 - a file of ours
                [sys.executable, "-P", str(_WORKER)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env={**os.environ, "PYTHONIOENCODING": "utf-8", "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"},
            )
            self._exchange(self._process, self._setup)
        return self._exchange(self._process, request)

    def _exchange(self, process: subprocess.Popen[bytes], request: Mapping[str, Any]) -> Any:
        if process.stdin is None or process.stdout is None:
            raise RuntimeError("the process was started without pipes")
        timer = threading.Timer(_LONGEST_WAIT, process.kill)
        timer.start()
        try:
            process.stdin.write(json.dumps(request).encode() + b"\n")
            process.stdin.flush()
            line = process.stdout.readline(_LONGEST_REPLY)
        except BrokenPipeError:
            line = b""
        finally:
            timer.cancel()
        if not line.endswith(b"\n"):
            if not line and process.wait() not in (-signal.SIGXCPU, -signal.SIGKILL):
                raise RuntimeError(f"the process that renders chat templates ended with {process.returncode}")
            process.kill()
            raise _too_much(f"more than {format_bytes(_LONGEST_REPLY)} of text" if line else "too long")
        reply = json.loads(line)
        if isinstance(reply, dict) and "fault" in reply:
            if reply["fault"] == "memory":
                raise _too_much("too much memory")
            raise CorruptModelError(
                f"The model's chat template cannot be used: {reply['fault']}.",
                field="model",
                remedy="Correct chat_template.jinja or tokenizer_config.json, or fetch them again.",
            )
        return reply


def _too_much(what: str) -> UnsafeModelError:
    return UnsafeModelError(
        f"The model's chat template takes {what} for one conversation.",
        field="model",
        remedy="Correct the template in chat_template.jinja or tokenizer_config.json, or use another model.",
    )

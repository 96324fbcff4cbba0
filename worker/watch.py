"""Monitors a job's process: its memory and its progress."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

import psutil

from app.settings import Settings
from qpruner_core.control_group import memory_limit
from qpruner_core.sizes import format_bytes, format_seconds

_SHARE = 0.95  # share of the memory of machine or container, if no limit is set
_INTERVAL = 1.0
_NOTABLE_BYTES = (
    2**16
)  # bytes of files written between two checks: a download or a checkpoint counts as progress, a log line does not
_OF_ITS_OWN = ("RssAnon", "RssShmem", "VmSwap")


@dataclass(frozen=True)
class Breach:
    """Reason to end a process. ``again``: whether another attempt may succeed."""

    code: str
    reason: str
    remedy: str
    again: bool


class Watch:
    """Monitors one process and its children.

    Memory counts the processes' own pages, not pages of files that the kernel can drop. Progress is an event, or data
    written to files.
    """

    def __init__(self, memory: int, stall_seconds: float) -> None:
        self._memory = memory
        self._stall_seconds = stall_seconds
        self._next_look = 0.0
        self._written = 0
        self._wrote_at = float("-inf")

    @classmethod
    def of(cls, settings: Settings) -> Watch:
        """The watch of ``settings``."""
        return cls(settings.job_memory or int(_SHARE * machine_memory()), settings.stall_seconds)

    def look(self, pid: int, quiet_since: float | None) -> Breach | None:
        """The problem of the process ``pid``, if any; checks at most once per second.

        ``quiet_since``: time (``time.monotonic()``) since which its next event is awaited; ``None``: it is not.
        """
        now = time.monotonic()
        if now < self._next_look:
            return None
        self._next_look = now + _INTERVAL
        processes = _tree(pid)
        memory = sum(_own_memory(one) for one in processes)
        if memory > self._memory:
            return _too_much(memory, self._memory)
        written = sum(_written(one) for one in processes)
        if written > self._written + _NOTABLE_BYTES:
            self._wrote_at = now
        self._written = written
        if quiet_since is None or not self._stall_seconds:
            return None
        return _stalled(self._stall_seconds) if now - max(quiet_since, self._wrote_at) > self._stall_seconds else None


def machine_memory() -> int:
    """Bytes of memory of the machine, or of the container if that has fewer."""
    total = int(psutil.virtual_memory().total)
    limit = memory_limit()
    return total if limit is None else min(total, limit)


def _too_much(memory: int, limit: int) -> Breach:
    return Breach(
        "memory_exceeded",
        f"The job's process took {format_bytes(memory)} of memory, more than its limit of {format_bytes(limit)}.",
        "Lower sequence_length or finetune.batch_size, set finetune.activation_checkpointing, or have the "
        "operator raise QPRUNER_JOB_MEMORY; a retry resumes after the last finished stage.", again=False,
    )  # fmt: skip


def _stalled(seconds: float) -> Breach:
    return Breach(
        "stalled", f"The job's process neither reported progress nor wrote any data for {format_seconds(seconds)}.",
        "If it happens again, check the worker's log, or raise QPRUNER_STALL_SECONDS.", again=True,
    )  # fmt: skip


def _tree(pid: int) -> list[int]:
    try:
        return [pid, *(child.pid for child in psutil.Process(pid).children(recursive=True))]
    except psutil.Error:
        return [pid]


def _own_memory(pid: int) -> int:
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return _resident(pid)
    fields = (line.partition(":") for line in lines)
    return sum(1024 * int(value.split()[0]) for name, _, value in fields if name in _OF_ITS_OWN)


def _resident(pid: int) -> int:
    """Without Linux's ``/proc``; 0 once the process is gone."""
    try:
        return int(psutil.Process(pid).memory_info().rss)
    except psutil.Error:
        return 0


def _written(pid: int) -> int:
    """Bytes that the process has passed to ``write`` so far; 0 if the system does not report it."""
    try:
        lines = Path(f"/proc/{pid}/io").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("wchar:")), 0)

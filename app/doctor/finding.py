"""Result of a check."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Status = Literal["ok", "warning", "failed", "skipped"]


@dataclass(frozen=True)
class Finding:
    """One line of the doctor's table. ``remedy`` is empty if there is nothing to do."""

    part: str
    status: Status
    detail: str
    remedy: str = ""


def ok(part: str, detail: str) -> Finding:
    """The part works."""
    return Finding(part, "ok", detail)


def warning(part: str, detail: str, remedy: str) -> Finding:
    """The part works or will work, with something to check."""
    return Finding(part, "warning", detail, remedy)


def failed(part: str, detail: str, remedy: str) -> Finding:
    """The part does not work."""
    return Finding(part, "failed", detail, remedy)


def skipped(part: str, detail: str) -> Finding:
    """The part is not used here, or cannot be checked."""
    return Finding(part, "skipped", detail)

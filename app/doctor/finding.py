"""What a check found."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Status = Literal["ok", "warning", "failed", "skipped"]


@dataclass(frozen=True)
class Finding:
    """One line of the doctor's table. ``remedy`` is empty where nothing is to be done."""

    part: str
    status: Status
    detail: str
    remedy: str = ""


def ok(part: str, detail: str) -> Finding:
    """The part does its work."""
    return Finding(part, "ok", detail)


def warning(part: str, detail: str, remedy: str) -> Finding:
    """The part does its work, or will do so; something of it deserves a look."""
    return Finding(part, "warning", detail, remedy)


def failed(part: str, detail: str, remedy: str) -> Finding:
    """The part does not do its work."""
    return Finding(part, "failed", detail, remedy)


def skipped(part: str, detail: str) -> Finding:
    """The part is not used here, or cannot be looked at."""
    return Finding(part, "skipped", detail)

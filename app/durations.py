"""Durations in human notation."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import BeforeValidator, Field

_UNITS = {"s": 1, "m": 60, "min": 60, "h": 3600, "d": 86_400}
_PART = re.compile(r"([0-9]+)\s*(s|min|m|h|d)\s*")  # unambiguous, so that no long text takes long to reject
_WHOLE = re.compile(rf"(?:{_PART.pattern})+")
_REMEDY = 'Give seconds, or a duration such as "90m", "12h" or "1d 12h".'
_LONGEST_TEXT = 64
LONGEST = 10 * 365 * 86_400
"""Seconds; far beyond any use, and within the range of dates."""


def parse_duration(value: object) -> int:
    """Seconds of ``5400``, ``"5400"``, ``"90m"``, ``"12h"`` or ``"1d 12h"``.

    Raises:
        ValueError: not a duration, or not between a second and ten years.
    """
    seconds = _seconds(value)
    if seconds is None:
        raise ValueError(f"Not a duration. {_REMEDY}")
    if not 1 <= seconds <= LONGEST:
        raise ValueError(f"Not between a second and ten years. {_REMEDY}")
    return seconds


def format_duration(seconds: int) -> str:
    """``129600`` as ``"1 d 12 h"``: every unit that is not zero."""
    parts = []
    for name, size in (("d", 86_400), ("h", 3600), ("min", 60), ("s", 1)):
        count, seconds = divmod(seconds, size)
        if count:
            parts.append(f"{count} {name}")
    return " ".join(parts) or "0 s"


def _seconds(value: object) -> int | None:
    if isinstance(value, bool):
        return None
    if isinstance(value, int):
        return value
    if isinstance(value, float):
        return int(value) if value.is_integer() else None
    if not isinstance(value, str) or len(value) > _LONGEST_TEXT:
        return None
    text = value.strip()
    if text.isascii() and text.isdigit():
        return int(text)
    if not _WHOLE.fullmatch(text):
        return None
    return sum(int(count) * _UNITS[unit] for count, unit in _PART.findall(text))


Duration = Annotated[
    int, Field(ge=1, le=LONGEST), BeforeValidator(parse_duration, json_schema_input_type=int | str)
]  # fmt: skip
"""A Pydantic field of seconds that also accepts ``"90m"`` and ``"1d 12h"``."""

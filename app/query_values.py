"""What values of queries and headers may look like, where Pydantic would take more than the API says."""

from __future__ import annotations

import re
from typing import TypeVar

_Value = TypeVar("_Value")
_RFC3339 = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt][0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,9})?([Zz]|[+-][0-9]{2}:[0-9]{2})", re.ASCII
)
_DIGITS = re.compile(r"-?[0-9]{1,20}", re.ASCII)


def require_rfc3339(value: _Value) -> _Value:
    """Return ``value`` unless it is a text that is no time of RFC 3339; a number would be seconds since 1970."""
    if isinstance(value, str) and not _RFC3339.fullmatch(value):
        raise ValueError("It is no time. Give one of RFC 3339, such as 2026-11-28T12:00:00Z; write a plus as %2B.")
    return value


def require_digits(value: _Value) -> _Value:
    """Return ``value`` unless it is a text with anything but digits: ``1_0`` and ``5.0`` would be numbers, too."""
    if isinstance(value, str) and not _DIGITS.fullmatch(value):
        raise ValueError("It is no whole number. Give digits alone.")
    return value

"""Stricter validation of values in queries and headers than Pydantic's."""

from __future__ import annotations

import re
from typing import TypeVar

_Value = TypeVar("_Value")
_RFC3339 = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt][0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,9})?([Zz]|[+-][0-9]{2}:[0-9]{2})", re.ASCII
)
_DIGITS = re.compile(r"-?[0-9]{1,20}", re.ASCII)


def require_rfc3339(value: _Value) -> _Value:
    """Return ``value`` unless it is a text other than an RFC 3339 time; a number would be seconds since 1970."""
    if isinstance(value, str) and not _RFC3339.fullmatch(value):
        raise ValueError("Not a time. Give one in RFC 3339, such as 2026-11-28T12:00:00Z; write a plus as %2B.")
    return value


def require_digits(value: _Value) -> _Value:
    """Return ``value`` unless it is a text with anything but digits: ``1_0`` and ``5.0`` would also be accepted."""
    if isinstance(value, str) and not _DIGITS.fullmatch(value):
        raise ValueError("Not a whole number. Give digits only.")
    return value

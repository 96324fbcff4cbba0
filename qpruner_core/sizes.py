"""Byte sizes in human notation."""

from __future__ import annotations

import math
import re
from fractions import Fraction
from typing import Annotated

from pydantic import BeforeValidator, Field

from qpruner_core.errors import BudgetInvalidError

_UNITS = {
    "": 1, "b": 1,
    "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12,
    "kb": 10**3, "mb": 10**6, "gb": 10**9, "tb": 10**12,
    "ki": 2**10, "mi": 2**20, "gi": 2**30, "ti": 2**40,
    "kib": 2**10, "mib": 2**20, "gib": 2**30, "tib": 2**40,
}  # fmt: skip
_PATTERN = re.compile(r"\s*([+-]?)([0-9]+(?:\.[0-9]+)?|\.[0-9]+)\s*([a-zA-Z]*)\s*")
_BITS = re.compile(r"[KMGT][iI]?b")
_REMEDY = 'Give a positive number of bytes, such as 130000000, "130MB" or "6GiB".'
_LONGEST = 64
LARGEST_SIZE = 2**63 - 1
"""Bytes: the largest number that the database and common tools can hold."""


def parse_bytes(value: int | float | str, field: str = "memory_budget") -> int:
    """Parse ``130000000``, ``"130MB"``, ``"6G"`` (decimal), ``"6GiB"`` or ``"6Gi"`` (binary) into bytes.

    Units are case-insensitive, except a small b after a capital letter: many read ``"6Gb"`` as bits, so it is rejected.
    Fractions are rounded down to whole bytes; fractions of single bytes are rejected.

    Raises:
        BudgetInvalidError: not a number with a known unit, not positive, or beyond 2**63 - 1.
    """
    number = _number(value, field)
    if number < 1:
        raise _invalid(value, "is not a positive number of bytes", field)
    if number > LARGEST_SIZE:
        raise _invalid(value, "exceeds the memory of any machine", field)
    return int(number)


def _number(value: int | float | str, field: str) -> int | Fraction:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise _invalid(value, "is not a number of bytes", field)
    if isinstance(value, int):
        return value
    if isinstance(value, float):
        return _whole(Fraction(value), value, field) if math.isfinite(value) else _no_number(value, field)
    match = _PATTERN.fullmatch(value) if len(value) <= _LONGEST else None
    if match is None:
        return _no_number(value, field)
    sign, digits, unit = match.groups()
    if _BITS.fullmatch(unit):
        raise _invalid(value, "may mean bits", field, 'Give bytes, with a capital B: "6GB" or "6GiB".')
    if unit.lower() not in _UNITS:
        return _no_number(value, field)
    factor = _UNITS[unit.lower()]
    number = Fraction(f"{sign}{digits}") * factor
    return number if factor > 1 else _whole(number, value, field)


def _whole(number: Fraction, value: object, field: str) -> Fraction:
    if number.denominator != 1:
        raise _invalid(value, "is not a whole number of bytes", field)
    return number


def _no_number(value: object, field: str) -> Fraction:
    raise _invalid(value, "is not a number of bytes", field)


def _invalid(value: object, what: str, field: str, remedy: str = _REMEDY) -> BudgetInvalidError:
    if isinstance(value, int) and abs(value) > LARGEST_SIZE:
        shown = "A number with so many digits"  # Python refuses to print more than 4300
    else:
        shown = repr(value) if len(repr(value)) <= _LONGEST else f"{repr(value)[:_LONGEST]}…"
    return BudgetInvalidError(f"{shown} {what}.", field=field, remedy=remedy)


def format_bytes(count: int | float) -> str:
    """``131072000`` as ``"131.1 MB"`` (decimal units, as disks and budgets are sold)."""
    size = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if abs(size) < 1000:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.2f} TB"


def format_seconds(seconds: float) -> str:
    """``3725.0`` as ``"1 h 2 min"``."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def _validate(value: object) -> int:
    try:
        return parse_bytes(value)  # type: ignore[arg-type]
    except BudgetInvalidError as error:
        raise ValueError(f"{error.message} {error.remedy}") from error


ByteSize = Annotated[
    int, Field(ge=1, le=LARGEST_SIZE), BeforeValidator(_validate, json_schema_input_type=int | str)
]  # fmt: skip
"""A Pydantic field of bytes that also accepts ``"130MB"`` and ``"6GiB"``."""

"""Numbers of bytes as people write them."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import BeforeValidator

from qpruner_core.errors import BudgetInvalidError

_UNITS = {
    "": 1, "b": 1,
    "kb": 10**3, "mb": 10**6, "gb": 10**9, "tb": 10**12,
    "kib": 2**10, "mib": 2**20, "gib": 2**30, "tib": 2**40,
}  # fmt: skip
_PATTERN = re.compile(r"\s*([+-]?\d+(?:\.\d+)?)\s*([a-zA-Z]*)\s*")
_REMEDY = 'Give a positive number of bytes, such as 130000000, "130MB" or "6GiB".'
_LARGEST = 2**63 - 1  # what the database and every tool around it can hold


def parse_bytes(value: int | float | str, field: str = "memory_budget") -> int:
    """Parse ``130000000``, ``"130MB"`` (decimal) or ``"6GiB"`` (binary) into bytes.

    Raises:
        BudgetInvalidError: not a number with a known unit, not positive, or beyond 2**63 - 1.
    """
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise BudgetInvalidError(f"{value!r} is not a number of bytes.", field=field, remedy=_REMEDY)
    match = _PATTERN.fullmatch(str(value))
    if match is None or match[2].lower() not in _UNITS:
        raise BudgetInvalidError(f"{value!r} is not a number of bytes.", field=field, remedy=_REMEDY)
    number = float(match[1]) * _UNITS[match[2].lower()] if "." in match[1] else int(match[1]) * _UNITS[match[2].lower()]
    if number < 1:
        raise BudgetInvalidError(f"{value!r} is not a positive number of bytes.", field=field, remedy=_REMEDY)
    if number > _LARGEST:
        raise BudgetInvalidError(f"{value!r} is more than any machine has.", field=field, remedy=_REMEDY)
    return int(number)


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


ByteSize = Annotated[int, BeforeValidator(_validate, json_schema_input_type=int | str)]
"""A Pydantic field of bytes that also accepts ``"130MB"`` and ``"6GiB"``."""

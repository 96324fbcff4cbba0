"""Refuse a key that an object of JSON has twice."""

from __future__ import annotations

from typing import Any


class RepeatedKeyError(ValueError):
    """An object has a key twice. Programs differ in the value that they take."""


def unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """The object of ``pairs``, for ``object_pairs_hook``. Raises :class:`RepeatedKeyError`."""
    values = dict(pairs)
    if len(values) != len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise RepeatedKeyError(f"it has the key {twice[:80]!r} twice")
    return values

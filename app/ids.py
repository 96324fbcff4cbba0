"""Identifiers: a prefix for the kind, and 26 characters that sort by creation time."""

from __future__ import annotations

import re
import secrets
import threading
import time

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"  # Crockford's base 32: no i, l, o, u
_SUFFIX = re.compile(f"[0-7][{_ALPHABET}]{{25}}")
_RANDOM_BITS = 80

_lock = threading.Lock()
_last = 0


def new_id(prefix: str) -> str:
    """A fresh id such as ``job_01jd3mz2w9...``: 48 bits of milliseconds, then 80 random bits.

    Ids made by one process sort in the order they were made, also within a millisecond.
    """
    global _last
    with _lock:
        fresh = (time.time_ns() // 1_000_000) << _RANDOM_BITS | secrets.randbits(_RANDOM_BITS)
        _last = max(fresh, _last + 1)
        number = _last
    return f"{prefix}_" + "".join(_ALPHABET[number >> shift & 31] for shift in range(125, -1, -5))


def is_id(value: str, prefix: str) -> bool:
    """Whether ``value`` has the form of ``new_id(prefix)``; it need not exist."""
    return value.startswith(f"{prefix}_") and _SUFFIX.fullmatch(value[len(prefix) + 1 :]) is not None

"""Format of an API key: ``qp_<prefix 8>_<secret 32><checksum 6>``, in base 62.

The checksum (CRC-32 of all before it, as in GitHub's tokens) distinguishes a typo, or a truncated key, from a revoked
key without a database query; it also lets a scanner of leaked secrets recognise a key reliably.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
import string
import zlib

_ALPHABET = string.digits + string.ascii_uppercase + string.ascii_lowercase
_PATTERN = re.compile(r"qp_([0-9A-Za-z]{8})_[0-9A-Za-z]{32}([0-9A-Za-z]{6})", re.ASCII)


def generate_api_key() -> str:
    """A fresh key; its secret has 190 bits."""
    body = f"qp_{_random(8)}_{_random(32)}"
    return body + _checksum(body)


def api_key_prefix(key: str) -> str | None:
    """The eight characters that identify a key; ``None`` if ``key`` is incomplete or mistyped."""
    match = _PATTERN.fullmatch(key)
    return match[1] if match and _checksum(key[:-6]) == match[2] else None


def hash_api_key(key: str, secret: bytes) -> str:
    """The stored hash: HMAC-SHA256 in hex, useless to a thief of the database alone."""
    return hmac.digest(secret, key.encode(), hashlib.sha256).hex()


def _random(length: int) -> str:
    return "".join(secrets.choice(_ALPHABET) for _ in range(length))


def _checksum(body: str) -> str:
    number = zlib.crc32(body.encode())
    digits = ""
    for _ in range(6):
        number, digit = divmod(number, 62)
        digits = _ALPHABET[digit] + digits
    return digits

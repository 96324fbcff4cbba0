"""Valid keys: relative POSIX paths with the same meaning for a folder and a bucket."""

from __future__ import annotations

_LONGEST_KEY = 512  # bytes; as wide as the column that holds it
_LONGEST_NAME = 255  # bytes; the limit of file systems


def check_key(key: str) -> str:
    """Return ``key`` if it is valid.

    Raises:
        ValueError: empty, too long, absolute, with an empty, ``.`` or ``..`` part, a backslash or a control character.
    """
    if not key or len(key.encode(errors="replace")) > _LONGEST_KEY:
        raise ValueError(f"A key has 1 to {_LONGEST_KEY} bytes.")
    if "\\" in key or any(ord(character) < 32 or 0x7F <= ord(character) < 0xA0 for character in key):
        raise ValueError("A key has no backslash and no control character.")
    if any(0xD800 <= ord(character) < 0xE000 for character in key):
        raise ValueError("A key is valid Unicode.")
    for part in key.split("/"):
        if part in ("", ".", "..") or len(part.encode()) > _LONGEST_NAME:
            raise ValueError("A key is a relative path without empty, '.' or '..' parts.")
    return key


def check_prefix(prefix: str) -> str:
    """Return ``prefix`` if it is valid; an empty one would name everything and is rejected."""
    check_key(prefix.removesuffix("/"))
    return prefix

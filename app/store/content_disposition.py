"""The header that names a downloaded file (RFC 6266)."""

from __future__ import annotations

from urllib.parse import quote


def attachment(filename: str) -> str:
    """``Content-Disposition`` for saving as ``filename``, also when it is not ASCII."""
    plain = "".join(c if c.isascii() and c.isprintable() and c not in '"\\' else "_" for c in filename)
    if plain == filename:
        return f'attachment; filename="{plain}"'
    return f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quote(filename, safe='', errors='replace')}"

"""Signatures of the local store's URLs: HMAC-SHA256 over method, key, file name or number of a part, and expiry."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from dataclasses import dataclass
from urllib.parse import quote, urlencode


class SignatureInvalidError(ValueError):
    """The signature was not made by us for this method, key, file name and expiry."""


class SignatureExpiredError(ValueError):
    """The signature is ours, but has expired."""


@dataclass(frozen=True)
class UrlSigner:
    """Signs and verifies with its own secret, see :func:`app.secrets.derive_key`."""

    secret: bytes

    def signature(self, method: str, key: str, filename: str, expires: int) -> str:
        """URL-safe base64 without padding, 43 characters; ``expires`` in seconds since 1970."""
        signed = json.dumps(
            ["v1", method, key, filename, expires]
        ).encode()  # JSON, so that no two inputs have the same bytes
        return base64.urlsafe_b64encode(hmac.digest(self.secret, signed, hashlib.sha256)).rstrip(b"=").decode()

    def path(self, key: str, filename: str, expires: int) -> str:
        """Path and query of a URL that GETs ``key``."""
        query = {"expires": expires, "filename": filename, "signature": self.signature("GET", key, filename, expires)}
        return f"/store/{quote(key)}?{urlencode(query)}"

    def part_path(self, key: str, number: int, expires: int) -> str:
        """Path and query of a URL that PUTs the part ``number`` of what will be ``key``."""
        signature = self.signature("PUT", key, str(number), expires)
        return f"/store/{quote(key)}?{urlencode({'part': number, 'expires': expires, 'signature': signature})}"

    def verify(self, method: str, key: str, filename: str, expires: str, signature: str, *, now: float) -> None:
        """Return if ``signature`` lets its holder ``method`` the object at ``key`` at ``now``.

        Raises:
            SignatureInvalidError: anything differs from the signed values.
            SignatureExpiredError: nothing differs, but ``now`` is past ``expires``.
        """
        if not (expires.isascii() and expires.isdigit() and len(expires) <= 12):
            raise SignatureInvalidError
        expected = self.signature(method, key, filename, int(expires))
        if not hmac.compare_digest(expected.encode(), signature.encode(errors="replace")):
            raise SignatureInvalidError
        if now >= int(expires):
            raise SignatureExpiredError

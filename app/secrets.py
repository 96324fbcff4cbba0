"""The signing key: from the settings, or generated and kept in the data directory of an embedded installation."""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
import tempfile
from pathlib import Path

from sqlalchemy import make_url

from app.settings import Settings
from qpruner_core.errors import QPrunerError

_SHORTEST = 32  # characters; `openssl rand -hex 32` gives 64
_REMEDY = (
    "Set QPRUNER_SIGNING_KEY to the same secret for the API and every worker; generate one with `openssl rand -hex 32`."
)


class SigningKeyError(QPrunerError):
    """There is no signing key that all parts of this installation share, or it is too short."""

    code = "signing_key"
    exit_code = 2


def load_signing_key(settings: Settings) -> bytes:
    """The installation's secret, from which all others are derived.

    Raises:
        SigningKeyError: none is set although database or store are shared with other machines, or it is too short.
    """
    if settings.signing_key is not None:
        return _long_enough(settings.signing_key.get_secret_value(), "The signing key")
    if not _is_embedded(settings):
        raise SigningKeyError(
            "A signing key is required if the database or the store is shared between machines.",
            field="signing_key",
            remedy=_REMEDY,
        )
    path = settings.data_dir / "signing.key"
    try:
        if not path.exists():
            _create(path)
        text = path.read_text("ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise SigningKeyError(
            f"The signing key cannot be read from {path}: {error}.", field="signing_key",
            remedy="Restore the file and its permissions, or set QPRUNER_SIGNING_KEY.",
        ) from error  # fmt: skip
    return _long_enough(text, f"The signing key in {path}")


def derive_key(signing_key: bytes, purpose: str) -> bytes:
    """A 32-byte secret for one purpose; each reveals nothing about the others."""
    return hmac.digest(signing_key, f"qpruner/{purpose}".encode(), hashlib.sha256)


def _is_embedded(settings: Settings) -> bool:
    sqlite = make_url(settings.resolved_database_url).get_backend_name() == "sqlite"
    return sqlite and settings.resolved_store_url.startswith("file:")


def _long_enough(secret: str, what: str) -> bytes:
    if len(secret) < _SHORTEST:
        raise SigningKeyError(f"{what} has fewer than {_SHORTEST} characters.", field="signing_key", remedy=_REMEDY)
    return secret.encode()


def _create(path: Path) -> None:
    """Write a new key that only the owner can read; if another process is first, its key is kept."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=".signing.key.")  # mode 0600
    try:
        with os.fdopen(descriptor, "w") as stream:
            stream.write(secrets.token_hex(32) + "\n")
            stream.flush()
            os.fsync(stream.fileno())
        os.link(name, path)  # unlike a rename, a link never replaces
    except FileExistsError:
        pass
    finally:
        Path(name).unlink()

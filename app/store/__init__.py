"""The store of large files: a local folder or a bucket, behind one protocol."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import unquote, urlsplit

from sqlalchemy import Engine

from app.secrets import derive_key, load_signing_key
from app.settings import Settings
from app.store.base import ArtifactStore
from app.store.errors import InvalidStoreUrlError, StoreAwayError, StoreUnavailableError
from app.store.identity import StoreIdentity
from app.store.local import LocalStore
from app.store.signing import UrlSigner

__all__ = [
    "ArtifactStore",
    "InvalidStoreUrlError",
    "LocalStore",
    "StoreAwayError",
    "StoreIdentity",
    "StoreUnavailableError",
    "UrlSigner",
    "open_store",
]


def open_store(settings: Settings, engine: Engine) -> ArtifactStore:
    """The store of ``settings.store_url``, identified by the database behind ``engine``.

    Contacts neither yet, see ``check()``.

    Raises:
        InvalidStoreUrlError: the URL has another scheme, or names no folder or bucket.
        SigningKeyError: there is no secret to sign URLs with.
    """
    url = urlsplit(settings.resolved_store_url)
    identity = StoreIdentity(engine, settings.resolved_store_url)
    if url.scheme == "file" and url.netloc in ("", "localhost") and len(url.path) > 1:
        signer = UrlSigner(derive_key(load_signing_key(settings), "signed-url"))
        return LocalStore(Path(unquote(url.path)), signer, identity)
    if url.scheme == "s3" and url.netloc:
        from app.store.s3 import (
            S3Store,
        )  # boto3 takes a third of a second to import, and most installations have no bucket

        return S3Store(url.netloc, url.path.strip("/"), settings, identity)
    raise InvalidStoreUrlError(
        f"{settings.resolved_store_url!r} is not a store.",
        field="store_url",
        remedy='Set QPRUNER_STORE_URL to "file:///absolute/folder" or "s3://bucket/prefix".',
    )

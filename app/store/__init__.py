"""The store of large files: a local folder or a bucket, behind one protocol."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import unquote, urlsplit

from app.secrets import derive_key, load_signing_key
from app.settings import Settings
from app.store.base import ArtifactStore
from app.store.errors import InvalidStoreUrlError, StoreUnavailableError
from app.store.local import LocalStore
from app.store.signing import UrlSigner

__all__ = ["ArtifactStore", "InvalidStoreUrlError", "LocalStore", "StoreUnavailableError", "UrlSigner", "open_store"]


def open_store(settings: Settings) -> ArtifactStore:
    """The store that ``settings.store_url`` names; does not talk to it yet, see ``check()``.

    Raises:
        InvalidStoreUrlError: the URL has another scheme, or names no folder or bucket.
        StoreUnavailableError: the local folder cannot be made.
    """
    url = urlsplit(settings.resolved_store_url)
    if url.scheme == "file" and url.netloc in ("", "localhost") and len(url.path) > 1:
        return _open_folder(Path(unquote(url.path)), settings)
    if url.scheme == "s3" and url.netloc:
        from app.store.s3 import S3Store  # boto3 takes a third of a second to import, and most need no bucket

        return S3Store(url.netloc, url.path.strip("/"), settings)
    raise InvalidStoreUrlError(
        f"{settings.resolved_store_url!r} names no store.",
        field="store_url",
        remedy='Set QPRUNER_STORE_URL to "file:///absolute/folder" or "s3://bucket/prefix".',
    )


def _open_folder(root: Path, settings: Settings) -> LocalStore:
    try:
        root.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StoreUnavailableError(
            f"The store's folder {root} cannot be made: {error.strerror}.",
            field="store_url",
            remedy="Name a folder that the service's user may write to.",
        ) from error
    return LocalStore(root, UrlSigner(derive_key(load_signing_key(settings), "signed-url")))

"""Interface of a store of artifacts. Keys are POSIX paths without ``..``."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Protocol

from app.store.identity import MarkedPlace, StoreIdentity


class ArtifactStore(MarkedPlace, Protocol):
    """A place for large files, shared by the API and every worker.

    Every method raises :class:`app.store.StoreUnavailableError` if the store is unreachable, and all but those of the
    marker raise :class:`app.store.StoreAwayError` if it is not the one that the database knows. Before the store is
    known they also raise the errors of an unreachable database.
    """

    identity: StoreIdentity

    def put_file(self, key: str, path: Path) -> None:
        """Store the file at ``key`` atomically."""

    def get_file(self, key: str, path: Path) -> None:
        """Write the object to ``path`` atomically. Raises ``FileNotFoundError`` if there is none."""

    def delete_prefix(self, prefix: str, *, keep: Collection[str] = ()) -> None:
        """Delete every object whose key begins with ``prefix``, except those that begin with one of ``keep``; none is
        fine."""

    def signed_url(self, key: str, *, expires_in: int, filename: str, base_url: str) -> str:
        """A URL that lets its holder GET the object for ``expires_in`` seconds, saved as ``filename``.

        ``base_url``: base URL of the service; stores with their own address ignore it.
        """

    def check(self) -> None:
        """Return if the store can be read and written."""

"""What the service asks of a store of artifacts. Keys are POSIX paths without ``..``."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Protocol

from app.store.identity import MarkedPlace, StoreIdentity


class ArtifactStore(MarkedPlace, Protocol):
    """A place for large files, shared by the API and every worker.

    Every method raises :class:`app.store.StoreUnavailableError` when the store does not answer, and those that are not
    about the marker raise :class:`app.store.StoreAwayError` when it is another than the database knows. Before the
    store is known they raise what a database that does not answer raises.
    """

    identity: StoreIdentity

    def put_file(self, key: str, path: Path) -> None:
        """Store the file at ``key``, whole or not at all."""

    def get_file(self, key: str, path: Path) -> None:
        """Write the object to ``path``, whole or not at all. Raises ``FileNotFoundError`` if there is none."""

    def delete_prefix(self, prefix: str, *, keep: Collection[str] = ()) -> None:
        """Delete every object whose key begins with ``prefix``, but for those that begin with one of ``keep``; none is
        fine."""

    def signed_url(self, key: str, *, expires_in: int, filename: str, base_url: str) -> str:
        """A URL that lets its holder GET the object for ``expires_in`` seconds, saved as ``filename``.

        ``base_url`` is where users reach the service; stores with an address of their own ignore it.
        """

    def check(self) -> None:
        """Return if the store can be read and written."""

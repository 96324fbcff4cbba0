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

    def link_file(self, key: str, path: Path) -> None:
        """:meth:`get_file`; if the store can, ``path`` is the object itself, which must not be changed."""

    def begin_upload(self, key: str, *, parts: int) -> str:
        """Begin an object of ``parts`` parts; returns the store's name of it while it is unfinished."""

    def part_url(self, key: str, token: str, number: int, *, size: int, expires_in: int, base_url: str) -> str:
        """A URL that lets its holder PUT the part ``number`` (from 1), of ``size`` bytes, for ``expires_in`` seconds.

        ``token`` is what :meth:`begin_upload` returned, and ``base_url`` as in :meth:`signed_url`.
        """

    def uploaded_parts(self, key: str, token: str) -> dict[int, int]:
        """Bytes of every received part, by number."""

    def finish_upload(self, key: str, token: str) -> None:
        """Assemble the object from its parts, in the order of their numbers. A finished object is unchanged.

        Raises ``FileNotFoundError`` if there is neither the object nor a part of it.
        """

    def delete_prefix(self, prefix: str, *, keep: Collection[str] = ()) -> None:
        """Delete every object whose key begins with ``prefix``, except those that begin with one of ``keep``; none is
        fine."""

    def signed_url(self, key: str, *, expires_in: int, filename: str, base_url: str) -> str:
        """A URL that lets its holder GET the object for ``expires_in`` seconds, saved as ``filename``.

        ``base_url``: base URL of the service; stores with their own address ignore it.
        """

    def check(self) -> None:
        """Return if the store can be read and written."""

"""A folder as a store; the service itself serves its signed URLs (see :mod:`app.store.endpoints`)."""

from __future__ import annotations

import errno
import io
import os
import shutil
import time
import uuid
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from app.store.errors import StoreUnavailableError
from app.store.identity import MARKER, StoreIdentity, marker_content, parse_marker
from app.store.keys import check_key, check_prefix
from app.store.signing import UrlSigner
from qpruner_core.stage_store import disk_full_as_error

_PARTIAL = ".partial"
_PARTS = ".parts"
_PIECE = 2**20


class LocalStore:
    """Objects are files below ``root``, which must hold the marker of ``identity``: an unmounted disk is not an empty
    store."""

    def __init__(self, root: Path, signer: UrlSigner, identity: StoreIdentity) -> None:
        self.root = root.resolve()
        self.signer = signer
        self.identity = identity

    def __str__(self) -> str:
        return str(self.root)

    def put_file(self, key: str, path: Path) -> None:
        """Store the file at ``key`` atomically. Raises ``DiskFullError`` when there is no room."""
        if not path.is_file():
            raise FileNotFoundError(errno.ENOENT, "No file to store", str(path))
        with self._failures_as_unavailable():
            self.identity.require(self)
            target = self.path_of(key)
            self._make_folders(target.parent)
            _copy_whole(path, target)

    def get_file(self, key: str, path: Path) -> None:
        """Write the object to ``path`` atomically. Raises ``FileNotFoundError`` if there is none."""
        source = self.find(key)
        if source is None:
            raise FileNotFoundError(errno.ENOENT, "No object in the store at this key", key)
        with disk_full_as_error(path.parent):
            try:
                _copy_whole(source, path)
            except FileNotFoundError:
                self.identity.require(self)  # it may have been unmounted meanwhile
                raise

    def link_file(self, key: str, path: Path) -> None:
        """As :meth:`get_file`, without another copy of the bytes where both lie in one file system."""
        source = self.find(key)
        if source is not None:
            with suppress(OSError):
                os.link(source, path)
                return
        self.get_file(key, path)

    def begin_upload(self, key: str, *, parts: int) -> str:
        """Nothing is to be done: parts lie in a folder beside ``key``."""
        self.identity.require(self)
        check_key(key)
        return ""

    def part_url(self, key: str, token: str, number: int, *, size: int, expires_in: int, base_url: str) -> str:
        """A URL below ``base_url``; how large a part is, the service knows when it comes."""
        expires = int(time.time()) + expires_in
        return base_url.rstrip("/") + self.signer.part_path(check_key(key), number, expires)

    @contextmanager
    def part_writer(self, key: str, number: int) -> Iterator[BinaryIO]:
        """A file that becomes the part ``number`` of ``key`` when the block ends well, and else leaves nothing."""
        with self._failures_as_unavailable():
            self.identity.require(self)
            folder = self._parts_folder(key)
            self._make_folders(folder)
            with _whole_file(folder / f"{number:05}") as writer:
                yield writer

    def uploaded_parts(self, key: str, token: str) -> dict[int, int]:
        """Bytes of every received part, by number."""
        with self._failures_as_unavailable():
            self.identity.require(self)
            return {int(path.name): path.stat().st_size for path in self._parts(key)}

    def finish_upload(self, key: str, token: str) -> None:
        """Put the parts together, and delete them once the whole is on the disk."""
        with self._failures_as_unavailable():
            self.identity.require(self)
            target, parts = self.path_of(key), self._parts(key)
            if not target.is_file():
                if not parts:
                    raise FileNotFoundError(errno.ENOENT, "No part of the object is in the store", key)
                with _whole_file(target) as writer:
                    for part in parts:
                        with part.open("rb") as reader:
                            shutil.copyfileobj(reader, writer, _PIECE)
            shutil.rmtree(self._parts_folder(key), ignore_errors=True)

    def _parts_folder(self, key: str) -> Path:
        return self.path_of(f"{key}{_PARTS}")

    def _parts(self, key: str) -> list[Path]:
        folder = self._parts_folder(key)
        return sorted(path for path in folder.iterdir() if path.name.isdigit()) if folder.is_dir() else []

    def delete_prefix(self, prefix: str, *, keep: Collection[str] = ()) -> None:
        """Delete every object whose key begins with ``prefix``, except those of ``keep``; none is fine."""
        folder, _, start = check_prefix(prefix).rpartition("/")
        kept = tuple(keep)
        with self._failures_as_unavailable():
            self.identity.require(self)
            parent = self.path_of(folder) if folder else self.root
            if start == "":
                self._delete(parent, kept)
            else:
                with suppress(FileNotFoundError, NotADirectoryError):
                    for entry in list(parent.iterdir()):
                        if entry.name.startswith(start):
                            self._delete(entry, kept)
            self.identity.require(self)  # in a store that was unmounted meanwhile, nothing was found

    def _delete(self, path: Path, kept: tuple[str, ...]) -> None:
        """Delete ``path`` and everything below it except ``kept``. Another process may be deleting the same."""
        is_folder = path.is_dir() and not path.is_symlink()
        name = path.relative_to(self.root).as_posix() + ("/" if is_folder else "")
        if name.startswith(kept):
            return
        with suppress(FileNotFoundError):
            if not is_folder:
                path.unlink()
                return
            for entry in list(path.iterdir()):
                self._delete(entry, kept)
            if not any(other.startswith(name) for other in kept):
                path.rmdir()

    def signed_url(self, key: str, *, expires_in: int, filename: str, base_url: str) -> str:
        """A URL below ``base_url``, relative if that is empty, that lets its holder GET the object for ``expires_in``
        seconds."""
        expires = int(time.time()) + expires_in
        return base_url.rstrip("/") + self.signer.path(check_key(key), filename, expires)

    def check(self) -> None:
        """Return if the folder can be written, read and deleted from."""
        probe = self.root / f".{uuid.uuid4().hex}{_PARTIAL}"
        with self._failures_as_unavailable():
            self.identity.require(self)
            try:
                probe.write_bytes(b"probe")
                if probe.read_bytes() != b"probe":
                    raise OSError(errno.EIO, "Written and read content differ")
            finally:
                probe.unlink(missing_ok=True)

    def find(self, key: str) -> Path | None:
        """The file at ``key``, or ``None``. Raises ``ValueError`` as :meth:`path_of` does."""
        with self._failures_as_unavailable():
            self.identity.require(self)
            path = self.path_of(key)
            if path.is_file():
                return path
            self.identity.require(self)  # it may have been unmounted meanwhile
            return None

    def path_of(self, key: str) -> Path:
        """Path of ``key``. Raises ``ValueError`` for a key that is malformed or leaves the folder by a symlink."""
        path = self.root.joinpath(*check_key(key).split("/"))
        if not path.resolve().is_relative_to(self.root):
            raise ValueError("The key leads out of the store.")
        return path

    def read_marker(self) -> str | None:
        """The id in the marker; ``None`` if there is no marker, ``""`` if it is unreadable."""
        with self._failures_as_unavailable():
            try:
                return parse_marker((self.root / MARKER).read_bytes())
            except (FileNotFoundError, NotADirectoryError):
                return None

    def write_marker(self, store_id: str) -> None:
        """Write the marker; creates the folder if there is none."""
        with self._failures_as_unavailable():
            self.root.mkdir(parents=True, exist_ok=True)
            _write_whole(self.root / MARKER, io.BytesIO(marker_content(store_id)))

    def holds(self, key: str) -> bool:
        """Whether there is an object at ``key``, whatever the marker."""
        with self._failures_as_unavailable():
            return self.path_of(key).is_file()

    def _make_folders(self, folder: Path) -> None:
        """Create ``folder``, but never the root."""
        for parent in (*reversed(folder.relative_to(self.root).parents), folder.relative_to(self.root)):
            if parent.parts:
                (self.root / parent).mkdir(exist_ok=True)

    @contextmanager
    def _failures_as_unavailable(self) -> Iterator[None]:
        try:
            with disk_full_as_error(self.root):
                yield
        except OSError as error:
            if isinstance(error, FileNotFoundError) and self.root.is_dir():
                raise
            raise StoreUnavailableError(
                f"The store's folder {self.root} cannot be used: {error.strerror or error}.",
                remedy="Mount or restore the folder, and let the service's user write to it.",
            ) from error


def _copy_whole(source: Path, target: Path) -> None:
    with source.open("rb") as reader:
        _write_whole(target, reader)


def _write_whole(target: Path, reader: BinaryIO) -> None:
    with _whole_file(target) as writer:
        shutil.copyfileobj(reader, writer, _PIECE)


@contextmanager
def _whole_file(target: Path) -> Iterator[BinaryIO]:
    """Write by a temporary file next to ``target``, synced before it takes the name."""
    partial = target.with_name(f".{uuid.uuid4().hex}{_PARTIAL}")
    try:
        with partial.open("xb") as writer:
            yield writer
            writer.flush()
            os.fsync(writer.fileno())
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)
    folder = os.open(target.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)

"""Files of uploads on this host: downloaded from the store once, verified, and shared by the jobs that read them."""

from __future__ import annotations

import hashlib
import os
import shutil
import uuid
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from time import time

from app.settings import Settings
from app.store import ArtifactStore
from app.uploads.errors import UploadCorruptError
from app.uploads.models import UploadFile
from qpruner_core.stage_store import disk_full_as_error

_PIECE = 2**20
_UNUSED_SECONDS = 86_400.0  # seconds until files that no job has requested are deleted


class ModelFiles:
    """The folder ``models`` in ``data_dir``, with a folder of files per upload.

    A local store and the scratch folders of jobs share the files (hard links): they take space once, and are freed with
    the last link.
    """

    def __init__(self, settings: Settings, store: ArtifactStore) -> None:
        self._root = settings.data_dir.resolve() / "models"
        self._store = store

    def fetch(self, upload_id: str, files: Sequence[UploadFile], check_stop: Callable[[], None]) -> Path:
        """The folder that holds the verified files.

        ``check_stop`` is called periodically, and raises if the files are no longer needed.

        Raises:
            UploadCorruptError: a file differs from the announced one.
            FileNotFoundError: the store has no such file. StoreUnavailableError, DiskFullError.
        """
        folder = self._root / upload_id
        with disk_full_as_error(self._root):
            for file in files:
                check_stop()
                target = folder / file.name
                target.parent.mkdir(parents=True, exist_ok=True)
                if not target.is_file():
                    self._fetch(file, target, check_stop)
            os.utime(folder)
        return folder

    def place(self, upload_id: str, files: Sequence[UploadFile], into: Path, check_stop: Callable[[], None]) -> None:
        """Provide the verified files in ``into``, for a reader that changes none. Raises as :meth:`fetch`."""
        folder = self.fetch(upload_id, files, check_stop)
        with disk_full_as_error(into):
            for file in files:
                target = into / file.name
                target.parent.mkdir(parents=True, exist_ok=True)
                _share(folder / file.name, target)

    def ids(self) -> list[str]:
        """Ids of the uploads with files here."""
        return [entry.name for entry in self._root.iterdir()] if self._root.is_dir() else []

    def forget(self, upload_id: str) -> None:
        """Delete the files of an upload from this host."""
        shutil.rmtree(self._root / upload_id, ignore_errors=True)

    def sweep(self, existing: Collection[str]) -> None:
        """Delete the files of uploads that are not ``existing``, and of those not requested for a day."""
        for upload_id in self.ids():
            folder = self._root / upload_id
            with suppress(FileNotFoundError):
                if upload_id not in existing or time() - folder.stat().st_mtime > _UNUSED_SECONDS:
                    self.forget(upload_id)

    def _fetch(self, file: UploadFile, target: Path, check_stop: Callable[[], None]) -> None:
        with _partial(target) as partial:
            self._store.link_file(file.key, partial)
            _verify(file, partial, check_stop)
            partial.replace(target)


def _verify(file: UploadFile, path: Path, check_stop: Callable[[], None]) -> None:
    field = f"files.{file.position}"
    size = path.stat().st_size
    if size != file.bytes:
        raise UploadCorruptError(
            f"{file.name!r} has {size} bytes instead of the announced {file.bytes}.",
            field=f"{field}.bytes", remedy="Upload it again, with the size and SHA-256 of the file as it is sent.",
        )  # fmt: skip
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while piece := stream.read(_PIECE):
            check_stop()
            digest.update(piece)
    if digest.hexdigest() != file.sha256:
        raise UploadCorruptError(
            f"The SHA-256 of {file.name!r} is {digest.hexdigest()}, which differs from the announced one.",
            field=f"{field}.sha256", remedy="Upload it again: it has changed, or was damaged on its way.",
        )  # fmt: skip


def _share(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:  # another file system, or one without links
        shutil.copyfile(source, target)


@contextmanager
def _partial(target: Path) -> Iterator[Path]:
    partial = target.with_name(f".{uuid.uuid4().hex}.partial")
    try:
        yield partial
    finally:
        partial.unlink(missing_ok=True)

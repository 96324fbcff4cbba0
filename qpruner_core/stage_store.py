"""A directory of finished stages: a stage counts when its directory has been renamed into place.

Layout: ``<root>/<stage>/`` holds the stage's files and ``stage.json`` (its summary, seconds, the digest of the
config and of the stages before it, and size and SHA-256 of every file). A run that is killed leaves at most a
``<stage>.partial`` directory, which the next run deletes, and a ``<stage>.progress`` directory, from which a long stage
goes on; it goes when the stage is finished.
"""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from qpruner_core.errors import DiskFullError
from qpruner_core.events import FileRecord, StageName
from qpruner_core.strict import StrictModel

STAGE_FILE = "stage.json"
StageFinder = Callable[[StageName, str], bool]
"""Puts the files of a finished stage that was made from a key where the store looks for them, if it has them anywhere;
whether it did. It need not be trusted: key and hashes are checked."""


class StageRecord(StrictModel):
    """What ``stage.json`` says. ``key`` digests everything that the result follows from."""

    stage: StageName
    key: str
    seconds: float
    summary: dict[str, Any]
    files: list[FileRecord]


def file_sha256(path: Path) -> str:
    """SHA-256 of a file, in hex, read in pieces."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def list_files(directory: Path) -> list[FileRecord]:
    """Every file below ``directory`` but ``stage.json``, sorted by path, with size and SHA-256."""
    paths = sorted(path for path in directory.rglob("*") if path.is_file() and path.name != STAGE_FILE)
    return [
        FileRecord(path=path.relative_to(directory).as_posix(), bytes=path.stat().st_size, sha256=file_sha256(path))
        for path in paths
    ]


@contextmanager
def disk_full_as_error(directory: Path) -> Iterator[None]:
    """Turn "no space left" and "quota exceeded" into :class:`DiskFullError`, whoever raised it."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise _disk_full(directory) from error
    except Exception as error:  # safetensors wraps the system's error in one of its own
        if "No space left" not in str(error) and "os error 28" not in str(error):
            raise
        raise _disk_full(directory) from error


def _disk_full(directory: Path) -> DiskFullError:
    return DiskFullError(
        f"No space left on the disk of {directory}.",
        remedy="Free some space and run again: finished stages are kept.",
    )


class StageStore:
    """The finished stages of one run, below ``root``; ``find`` is asked for those that are not there."""

    def __init__(self, root: Path, find: StageFinder = lambda stage, key: False) -> None:
        self.root = root
        self._find = find

    def directory(self, stage: StageName) -> Path:
        """Where the finished ``stage`` lies, whether or not it exists."""
        return self.root / stage

    def progress_directory(self, stage: StageName) -> Path:
        """Where ``stage`` may keep what a killed run of it goes on from, whether or not it exists; gone when finished.

        What lies there may be of other settings: whoever writes it says of which.
        """
        return self.root / f"{stage}.progress"

    def load(self, stage: StageName, key: str) -> StageRecord | None:
        """The record of ``stage`` if it is finished, was made from ``key`` and its files are whole."""
        record = self._load(stage, key)
        if record is None and self._find(stage, key):
            record = self._load(stage, key)
        return record

    def key(self, stage: StageName) -> str:
        """What the finished ``stage`` was made from."""
        return StageRecord.model_validate_json((self.directory(stage) / STAGE_FILE).read_bytes()).key

    def _load(self, stage: StageName, key: str) -> StageRecord | None:
        path = self.directory(stage) / STAGE_FILE
        if not path.is_file():
            return None
        try:
            record = StageRecord.model_validate_json(path.read_bytes())
        except ValidationError:
            return None
        whole = record.key == key and record.files == list_files(self.directory(stage))
        return record if whole else None

    @contextmanager
    def begin(self, stage: StageName) -> Iterator[Path]:
        """An empty directory to write ``stage`` into; deleted if the block raises, and if it never commits."""
        partial = self.root / f"{stage}.partial"
        with disk_full_as_error(self.root):
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir(parents=True)
            try:
                yield partial
            finally:
                shutil.rmtree(partial, ignore_errors=True)

    def commit(self, stage: StageName, key: str, partial: Path, summary: dict[str, Any], seconds: float) -> StageRecord:
        """Make ``partial`` the finished ``stage``, atomically."""
        record = StageRecord(stage=stage, key=key, seconds=seconds, summary=summary, files=list_files(partial))
        with disk_full_as_error(self.root), (partial / STAGE_FILE).open("w") as stream:
            stream.write(record.model_dump_json(indent=1))
            stream.flush()
            os.fsync(stream.fileno())
        shutil.rmtree(self.directory(stage), ignore_errors=True)
        partial.rename(self.directory(stage))
        shutil.rmtree(self.progress_directory(stage), ignore_errors=True)
        return record

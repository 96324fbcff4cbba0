"""A directory of finished stages: a stage counts when its directory has been renamed into place.

Layout: ``<root>/<stage>/`` holds the stage's files and ``stage.json`` (its summary, seconds, the digest of the config
and of earlier stages, and size and SHA-256 of every file). A killed run leaves at most a ``<stage>.partial`` directory,
which the next run deletes, and a ``<stage>.progress`` directory, from which a long stage resumes; it is deleted when
the stage is finished. A directory whose ``stage.json`` does not name its stage was not written by a run, and is never
deleted; so ``stage.json`` is replaced atomically, and deleted last.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError

from qpruner_core.errors import DiskFullError, OutputInvalidError
from qpruner_core.events import STAGES, FileRecord, StageName
from qpruner_core.strict import StrictModel
from qpruner_core.writable import require_access

STAGE_FILE = "stage.json"
_NEW_STAGE_FILE = f".{STAGE_FILE}.new"
KNOWN_TRIALS = "known_trials.jsonl"
StageFinder = Callable[[StageName, str], bool]
"""Copies the files of an equal finished stage to the store, given stage and key; returns whether it did. It need not be
trusted: key and hashes are checked."""


class StageRecord(StrictModel):
    """Content of ``stage.json``. ``key`` digests all inputs of the result; ``warnings``: those of the stage, for
    reports of runs that reuse it."""

    stage: StageName
    key: str
    seconds: float
    summary: dict[str, Any]
    files: list[FileRecord]
    warnings: list[str] = Field(default_factory=list)


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
    """Translate "no space left" and "quota exceeded" from any library into :class:`DiskFullError`."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise _disk_full(directory) from error
    except Exception as error:  # safetensors wraps the system's error
        if "No space left" not in str(error) and "os error 28" not in str(error):
            raise
        raise _disk_full(directory) from error


def _disk_full(directory: Path) -> DiskFullError:
    return DiskFullError(
        f"No space left on the disk of {directory}.",
        remedy="Free some space and run again: finished stages are kept.",
    )


class StageStore:
    """The finished stages of one run, below ``root``; ``find`` is called for missing ones."""

    def __init__(self, root: Path, find: StageFinder = lambda stage, key: False) -> None:
        self.root = root
        self._find = find

    def directory(self, stage: StageName) -> Path:
        """The directory of the finished ``stage``, whether or not it exists."""
        return self.root / stage

    def progress_directory(self, stage: StageName) -> Path:
        """The directory from which a killed run of ``stage`` resumes, whether or not it exists; deleted when the stage
        is finished.

        Its content may belong to other settings; its writer must record them.
        """
        return self.root / f"{stage}.progress"

    def load(self, stage: StageName, key: str) -> StageRecord | None:
        """The record of ``stage`` if it is finished, was made from ``key`` and its files are intact."""
        record = self._load(stage, key)
        if record is None and self._find(stage, key):
            record = self._load(stage, key)
        return record

    def replaced(self) -> list[Path]:
        """Every path that a run replaces or deletes, including its content."""
        return [self.root / f"{stage}{ending}" for stage in STAGES for ending in ("", ".partial", ".progress")]

    def refuse_foreign(self, field: str = "work_dir") -> None:
        """Raise :class:`OutputInvalidError` if a path that a run replaces or extends was not written by an earlier
        run."""
        try:
            self._refuse_foreign(field)
        except OSError as error:
            raise OutputInvalidError(
                f"{error.filename or self.root} of an earlier run cannot be replaced: {error.strerror or error}.",
                field=field,
                remedy="Correct its permissions, or choose another directory.",
            ) from error

    def _refuse_foreign(self, field: str) -> None:
        for path in self.replaced():
            if path.is_dir():
                require_access(path)
        known = any(
            _is_stage(path, stage) for stage in STAGES for path in (self.directory(stage), self._partial(stage))
        )
        for stage in STAGES:
            for path in (self.directory(stage), self._partial(stage)):
                if not _is_ours(path, stage):
                    raise _foreign(path, field)
            if not known and os.path.lexists(self.progress_directory(stage)):
                raise _foreign(self.progress_directory(stage), field)
        if not known and os.path.lexists(self.root / KNOWN_TRIALS):
            raise _foreign(self.root / KNOWN_TRIALS, field)

    def key(self, stage: StageName) -> str:
        """The key of the finished ``stage``."""
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
        """Context manager: an empty directory for the files of ``stage``; deleted if the block raises or does not
        commit."""
        partial = self._partial(stage)
        with disk_full_as_error(self.root):
            self._delete(partial, stage)
            partial.mkdir(parents=True)
            try:
                _mark(partial, json.dumps({"stage": stage}))
                yield partial
            finally:
                _remove(partial)

    def commit(
        self, stage: StageName, key: str, partial: Path, summary: dict[str, Any], seconds: float,
        warnings: Sequence[str] = (),
    ) -> StageRecord:  # fmt: skip
        """Make ``partial`` the finished ``stage``, atomically."""
        record = StageRecord(
            stage=stage, key=key, seconds=seconds, summary=summary, files=list_files(partial), warnings=list(warnings)
        )
        with disk_full_as_error(self.root):
            _mark(partial, record.model_dump_json(indent=1))
        self._delete(self.directory(stage), stage)
        partial.rename(self.directory(stage))
        shutil.rmtree(self.progress_directory(stage), ignore_errors=True)
        return record

    def _partial(self, stage: StageName) -> Path:
        return self.root / f"{stage}.partial"

    def _delete(self, path: Path, stage: StageName) -> None:
        if not _is_ours(path, stage):
            raise _foreign(path, "work_dir")
        _remove(path)


def _mark(directory: Path, text: str) -> None:
    """Replace ``stage.json`` atomically: a run killed here leaves the old one, or a directory with no other file."""
    with (directory / _NEW_STAGE_FILE).open("w") as stream:
        stream.write(text)
        stream.flush()
        os.fsync(stream.fileno())
    (directory / _NEW_STAGE_FILE).replace(directory / STAGE_FILE)


def _remove(directory: Path) -> None:
    """Delete a stage's directory, ``stage.json`` last: a run killed here leaves a directory that the next one
    recognises."""
    if directory.is_dir():
        for path in directory.iterdir():
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path, ignore_errors=True)
            elif path.name != STAGE_FILE:
                path.unlink(missing_ok=True)
        shutil.rmtree(directory, ignore_errors=True)


def _is_ours(path: Path, stage: StageName) -> bool:
    """Whether a run may delete ``path``: it does not exist, or a run of ``stage`` wrote or began it."""
    if not os.path.lexists(path) or _is_stage(path, stage):
        return True
    return path.is_dir() and not path.is_symlink() and all(file.name == _NEW_STAGE_FILE for file in path.iterdir())


def _is_stage(path: Path, stage: StageName) -> bool:
    """Whether ``path`` is a directory that a run of ``stage`` has written, finished or not, of any release."""
    if path.is_symlink() or not (path / STAGE_FILE).is_file():
        return False
    try:
        said = json.loads((path / STAGE_FILE).read_bytes())
    except (ValueError, RecursionError):
        return False
    return isinstance(said, dict) and said.get("stage") == stage


def _foreign(path: Path, field: str) -> OutputInvalidError:
    return OutputInvalidError(
        f"{str(path)!r} is in the way of the run's stages: it was not written by an earlier run.",
        field=field,
        remedy="Choose another directory, or move it away: only files that QPruner wrote are overwritten.",
    )

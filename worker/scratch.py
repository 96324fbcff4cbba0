"""The scratch folder of a job on this host. Only the holder of its lock, or of a child that has it, may use it."""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from app.settings import Settings


class Scratch:
    """Folders of one job: finished stages, the run's output, uploads it reads, and temporary files."""

    def __init__(self, root: Path, lock: int) -> None:
        self.root = root
        self.lock = lock
        self.stages = root / "stages"
        self.output = root / "output"
        self.uploads = root / "uploads"
        self.temporary = root / "tmp"

    def prepare(self) -> None:
        """Create the folders; output, uploads and temporary files of an earlier attempt are deleted."""
        self.stages.mkdir(parents=True, exist_ok=True)
        for folder in (self.output, self.uploads, self.temporary):
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()

    def delete(self) -> None:
        """Delete all of it."""
        shutil.rmtree(self.root, ignore_errors=True)


def scratch_root(settings: Settings) -> Path:
    """Parent of the scratch folders of all jobs."""
    return settings.data_dir.resolve() / "work"


@contextmanager
def locked_scratch(settings: Settings, job_id: str, wait: Callable[[], bool]) -> Iterator[Scratch | None]:
    """The scratch of ``job_id``, locked: a child that outlived its supervisor must be gone before a new one starts.

    ``wait`` pauses a moment and returns whether to retry; if not, ``None`` is yielded.
    """
    root = scratch_root(settings)
    root.mkdir(parents=True, exist_ok=True)
    path = root / f"{job_id}.lock"
    lock = _try_lock(path)
    while lock is None and wait():
        lock = _try_lock(path)
    if lock is None:
        yield None
        return
    scratch = Scratch(root / job_id, lock)
    try:
        yield scratch
    finally:
        if not scratch.root.exists():
            path.unlink(missing_ok=True)
        os.close(lock)


def jobs_with_scratch(settings: Settings) -> list[str]:
    """Ids of the jobs that have a scratch folder on this host."""
    root = scratch_root(settings)
    return sorted(entry.name for entry in root.iterdir() if entry.is_dir()) if root.is_dir() else []


def _try_lock(path: Path) -> int | None:
    lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    with suppress(OSError):
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if path.exists() and os.fstat(lock).st_ino == path.stat().st_ino:  # otherwise its last holder deleted it
            return lock
    os.close(lock)
    return None

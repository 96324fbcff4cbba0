"""Check that a directory can be written to, by writing to it, before hours of work depend on it."""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from qpruner_core.errors import CacheUnusableError, DiskFullError, OutputInvalidError

_ATTEMPTS = 5
_NO_SPACE = (errno.ENOSPC, errno.EDQUOT)
_REASONS = {
    errno.EACCES: "permission denied",
    errno.EPERM: "permission denied",
    errno.EROFS: "it is on a read-only file system",
    errno.ENAMETOOLONG: "its name is too long",
    errno.ENOTDIR: "a file is in the way",
    errno.EEXIST: "a file is in the way",
    errno.ELOOP: "its symbolic links form a loop",
}


def require_writable(directory: Path, field: str, *, longest: str = "") -> None:
    """Raise unless files can be written below ``directory``, which need not exist; leaves nothing behind.

    ``longest``: the longest path that will be written, relative to ``directory``.

    Raises:
        OutputInvalidError: a file is in the way, writing is not permitted, or a name is too long.
        DiskFullError: no space is left.
    """
    try:
        _try_to_write(directory, longest)
    except OSError as error:
        if error.errno in _NO_SPACE:
            raise DiskFullError(
                f"No space left on the disk of {directory}.", field=field, remedy="Free some space and run again."
            ) from error
        raise OutputInvalidError(
            f"{_shown(directory)} cannot be used: {_reason(error)}.",
            field=field,
            remedy="Choose a directory that can be written, or that can be created.",
        ) from error
    except ValueError as error:  # a zero byte, or characters that are invalid in file names
        raise OutputInvalidError(
            f"{str(directory)!r} is not a path.", field=field, remedy="Choose a directory with an ordinary name."
        ) from error


def require_access(directory: Path) -> None:
    """Raise :class:`PermissionError` unless the content of an existing ``directory`` may be listed and deleted."""
    if not os.access(directory, os.R_OK | os.W_OK | os.X_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(directory))


@contextmanager
def cache_errors(cache_dir: Path) -> Iterator[None]:
    """Translate system errors of an unusable cache into :class:`CacheUnusableError`."""
    try:
        yield
    except OSError as error:
        if error.errno not in _REASONS:
            raise
        raise CacheUnusableError(
            f"The cache directory {_shown(cache_dir)} cannot be used: {_reason(error)}.",
            field="cache_dir",
            remedy="Correct its permissions, or set QPRUNER_CACHE_DIR to a directory that can be read and written.",
        ) from error


def _try_to_write(directory: Path, longest: str) -> None:
    for attempt in range(_ATTEMPTS):
        made: list[Path] = []
        try:
            with suppress(FileNotFoundError):
                os.lstat(directory / longest)
            for folder in (*reversed(directory.parents), directory):
                if not folder.is_dir():
                    folder.mkdir()
                    made.append(folder)
            with tempfile.TemporaryFile(dir=directory) as probe:
                probe.write(b"\0")
            return
        except (FileNotFoundError, FileExistsError):  # another run creates and removes the same parents
            if attempt == _ATTEMPTS - 1:
                raise
        finally:
            for folder in reversed(made):
                with suppress(OSError):
                    folder.rmdir()


def _reason(error: OSError) -> str:
    if error.errno in (errno.ENOTDIR, errno.EEXIST) and isinstance(error.filename, str):
        in_the_way = _file_in_the_way(Path(error.filename))
        if in_the_way is not None:
            return f"{_shown(in_the_way)} is a file"
    return _REASONS.get(error.errno or 0, error.strerror or str(error))


def _file_in_the_way(path: Path) -> Path | None:
    """The first part of ``path`` that exists and is not a directory."""
    for part in (*reversed(path.parents), path):
        with suppress(OSError):
            if part.exists() and not part.is_dir():
                return part
    return None


def _shown(path: Path) -> str:
    text = str(path)
    return text if len(text) <= 200 else f"{text[:100]}…{text[-60:]}"

"""Permission check of local paths."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from qpruner_core.errors import PathNotAllowedError
from qpruner_core.source_policy import SourcePolicy

_PATH_PREFIXES = ("/", "./", "../", "~")


def is_local_reference(reference: str, policy: SourcePolicy) -> bool:
    """Whether ``reference`` is a local path instead of a hub id.

    A string in the form of a hub id is a path only if every path is allowed and it exists: in the service, a directory
    in the working directory must not shadow ``org/name``.
    """
    if reference.startswith(_PATH_PREFIXES) or reference in (".", ".."):
        return True
    try:
        return policy.allowed_roots is None and Path(reference).exists()
    except (OSError, ValueError):  # too long for a path, or below an unsearchable directory
        return False


def resolve_local_path(reference: str, policy: SourcePolicy, field: str) -> Path:
    """The absolute path of ``reference`` with symlinks resolved; it need not exist.

    A link to a file keeps its own name, which has the file's format: caches of hubs link names to digests.

    Raises:
        PathNotAllowedError: it lies outside the allowed roots. Existence is not checked first, so that the error
            reveals nothing about paths outside.
    """
    try:
        named = Path(reference).expanduser()
        path = named.resolve()
    except (OSError, RuntimeError, ValueError) as error:
        raise PathNotAllowedError(
            f"{reference!r} is not a usable path.", field=field, remedy="Give a path that exists."
        ) from error
    _check_resolved(path, path, policy, field)
    return named.parent.resolve() / named.name if path.is_file() else path


def check_within_roots(path: Path, policy: SourcePolicy, field: str) -> None:
    """Raise :class:`PathNotAllowedError` unless ``path``, symlinks resolved, lies below an allowed root."""
    if policy.allowed_roots is not None:
        _check_resolved(path.resolve(), path, policy, field)


def check_entry_within_roots(entry: Path, policy: SourcePolicy, field: str) -> None:
    """:func:`check_within_roots` of an entry of a directory that was checked: only a symlink can lead out of it."""
    if entry.is_symlink():
        check_within_roots(entry, policy, field)


def _check_resolved(resolved: Path, path: Path, policy: SourcePolicy, field: str) -> None:
    if policy.allowed_roots is None:
        return
    if any(resolved.is_relative_to(root.expanduser().resolve()) for root in policy.allowed_roots):
        return
    raise PathNotAllowedError(
        f"{str(path)!r} lies outside the directories that this installation may read.",
        field=field,
        remedy="Move it below an allowed root, upload it, or ask the operator to allow its directory.",
    )


@contextmanager
def unreadable_as_error(field: str) -> Iterator[None]:
    """Translate system errors of an unreadable file or directory into :class:`PathNotAllowedError`."""
    try:
        yield
    except OSError as error:
        if error.filename is None:  # without a path: a network or a full disk
            raise
        raise PathNotAllowedError(
            f"{Path(str(error.filename)).name[:100]!r} cannot be read: {error.strerror or type(error).__name__}.",
            field=field,
            remedy="Give an existing path that the user who runs QPruner may read, including all directories above it.",
        ) from error

"""Read untrusted JSON files of a model within bounds of time and memory."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from qpruner_core.errors import CorruptModelError
from qpruner_core.repeated_keys import unique_keys

LARGEST_JSON = 32 * 2**20
"""Most bytes of a config or an index of shards; those of the largest models have a few hundred kilobytes."""
_LONGEST_LIST = 20_000
"""Most entries of one list in a config. Lists hold an entry per layer, or per pair of channels of a head."""


def read_json_object(path: Path, *, most_bytes: int = LARGEST_JSON, keys_may_repeat: bool = False) -> dict[str, Any]:
    """The JSON object in ``path``. Duplicate keys are rejected, because programs differ in the value they take.

    Raises:
        CorruptModelError: it is missing, not a regular file, larger than ``most_bytes``, or not one JSON object of
            finite numbers and, unless ``keys_may_repeat``, unique keys.
    """
    data = read_regular_file(path, most_bytes)
    try:
        return parse_object(data, keys_may_repeat=keys_may_repeat)
    except (ValueError, RecursionError) as error:
        what = "it is nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise corrupt_file(path.name, f"it is not readable JSON ({what})") from error


def read_regular_file(path: Path, most_bytes: int) -> bytes:
    """Content of ``path``, which must be a regular file of at most ``most_bytes`` bytes; never blocks on a pipe.

    Raises:
        CorruptModelError: it is not, or it cannot be read.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(descriptor, "rb") as stream:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise corrupt_file(path.name, "it is not a regular file")
            data = stream.read(most_bytes + 1)
    except OSError as error:
        raise corrupt_file(path.name, f"it cannot be read ({error.strerror})") from error
    if len(data) > most_bytes:
        raise corrupt_file(path.name, f"it is larger than {most_bytes} bytes")
    return data


def parse_object(data: bytes, *, keys_may_repeat: bool = False) -> dict[str, Any]:
    """The JSON object in ``data``. Raises :class:`ValueError` or :class:`RecursionError`."""
    values = json.loads(
        data.decode(), parse_constant=_refuse_constant, object_pairs_hook=dict if keys_may_repeat else unique_keys
    )
    if not isinstance(values, dict):
        raise ValueError("it is not an object")
    if b"\\u" in data:
        json.dumps(values, ensure_ascii=False).encode()  # half of a character, which no message could print
    return values


def require_short_lists(values: object, name: str) -> None:
    """Raise :class:`CorruptModelError` if a list in the parsed file ``name`` is too long for a config."""
    if isinstance(values, list) and len(values) > _LONGEST_LIST:
        raise corrupt_file(name, f"a list in it has {len(values)} entries")
    inner: Iterable[object] = ()
    if isinstance(values, dict | list):
        inner = values.values() if isinstance(values, dict) else values
    for value in inner:
        require_short_lists(value, name)


def require_regular(path: Path) -> None:
    """Raise :class:`CorruptModelError` if ``path`` exists as anything but a regular file (or a link to one)."""
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        if path.is_symlink():
            raise corrupt_file(path.name, "it is a link to a file that does not exist") from None
        return
    except OSError as error:
        raise corrupt_file(path.name, f"it cannot be read ({error.strerror})") from error
    if not stat.S_ISREG(mode):
        raise corrupt_file(path.name, "it is not a regular file")


def corrupt_file(name: str, what: str) -> CorruptModelError:
    """The error for the file ``name`` of a model."""
    return CorruptModelError(
        f"{name} of the model cannot be used: {what}.", field="model", remedy="Fetch or export the model again."
    )


def one_line(error: Exception) -> str:
    """Type of an error and the beginning of its message."""
    return f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"


def _refuse_constant(constant: str) -> None:
    raise ValueError(f"it holds the value {constant}")

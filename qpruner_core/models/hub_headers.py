"""Headers of hub weights, read by range requests, so that inspecting a model downloads nothing else."""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from contextvars import copy_context
from pathlib import Path

from qpruner_core.errors import CorruptModelError
from qpruner_core.hub import HubRepository
from qpruner_core.models.checkpoint import LARGEST_HEADER, TensorShapes, parse_header, require_bounded_headers
from qpruner_core.models.gguf.header import HeaderIncompleteError, read_header
from qpruner_core.stage_store import disk_full_as_error
from qpruner_core.writable import cache_errors

_FIRST = 2**16
"""Bytes requested first of a safetensors file; most headers are shorter."""
_FIRST_GGUF = 2**20
_LARGEST_GGUF_HEADER = 2**26
"""Most bytes of a GGUF header; a vocabulary of 260,000 tokens with its merges has about 15 million."""
_AT_ONCE = 8
_CHOOSE = "Choose another revision, or report it to its authors."


def hub_tensors(repository: HubRepository, files: Sequence[str], reference: str) -> TensorShapes:
    """The tensors declared by the headers of safetensors ``files`` on the hub.

    Raises:
        CorruptModelError: a header is invalid, or a file is shorter than its header declares.
        HubUnavailableError: and the other errors of :class:`HubRepository`.
    """
    with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="hub-headers") as threads:
        # Each thread with the deadline of this one
        reads = [threads.submit(copy_context().run, _header, repository, name, reference) for name in files]
        headers = [read.result() for read in reads]
    require_bounded_headers(len(header) for header in headers)
    tensors: TensorShapes = {}
    for name, header in zip(files, headers, strict=True):
        try:
            found, end = parse_header(header)
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            raise _unreadable(reference) from error
        needed, there = 8 + len(header) + end, repository.sizes.get(name) or None
        if there is not None and there < needed:
            raise CorruptModelError(
                f"{name} of {reference!r} on the hub is truncated: it has {there} bytes of {needed}.",
                field="model",
                remedy=_CHOOSE,
            )
        tensors.update(found)
    return tensors


def hub_gguf(repository: HubRepository, names: Sequence[str]) -> Path:
    """The first file of a GGUF model on the hub, or a sparse file with its header only: of full length, and empty after
    the header.

    Raises:
        CorruptModelError: it has no header of a possible size.
        HubUnavailableError: and the other errors of :class:`HubRepository`.
    """
    whole = repository.cached(names)
    if whole is not None:
        return whole / names[0]
    for name in names:
        _gguf_header(repository, name)
    return repository.header_path(names[0])


def _header(repository: HubRepository, name: str, reference: str) -> bytes:
    first = repository.read(name, 0, _FIRST)
    length = int.from_bytes(first[:8], "little")
    if len(first) < 8 or not 2 <= length <= LARGEST_HEADER:
        raise _unreadable(reference)
    header = first[8 : 8 + length]
    if len(header) < length and len(first) == _FIRST:
        header += repository.read(name, _FIRST, 8 + length - _FIRST)
    return header


def _gguf_header(repository: HubRepository, name: str) -> None:
    path = repository.header_path(name)
    partial = path.with_name(f"{path.name}.{os.getpid()}-{threading.get_ident()}")
    with disk_full_as_error(path.parent), cache_errors(path.parent):
        if path.is_file():
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with partial.open("wb") as stream:
                stream.truncate(repository.sizes.get(name, 0))  # takes no room on disk
                present, wanted = 0, _FIRST_GGUF
                while True:
                    stream.seek(present)
                    stream.write(repository.read(name, present, wanted - present))
                    stream.flush()
                    present = wanted
                    with suppress(HeaderIncompleteError):
                        read_header(partial, present=present)
                        break
                    wanted *= 2
                    if present >= _LARGEST_GGUF_HEADER:
                        raise CorruptModelError(
                            f"The header of {name} on the hub exceeds the size limit.", field="model",
                            remedy=_CHOOSE,
                        )  # fmt: skip
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)


def _unreadable(reference: str) -> CorruptModelError:
    return CorruptModelError(
        f"The weights of {reference!r} on the hub have no readable safetensors header.", field="model", remedy=_CHOOSE
    )

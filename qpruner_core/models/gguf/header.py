"""The header of one GGUF file, read with bounds on all counts.

A header is untrusted: each count is checked against a limit and against the remaining bytes before anything is
allocated. Long arrays (vocabularies) are skipped and read by :func:`read_array` on demand.
"""

from __future__ import annotations

import math
import mmap
import stat
import struct
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType
from gguf.quants import dequantize

from qpruner_core.errors import CorruptModelError, UnsupportedArchitectureError

_MAGIC = b"GGUF"
_VERSIONS = (2, 3)
_MOST_KEYS = 4096
_MOST_TENSORS = 100_000
_MOST_ELEMENTS = 2_000_000
"""Most elements of an array; the largest vocabularies and lists of merges have half a million."""
_KEPT_ELEMENTS = 1024
"""Arrays up to this length are kept with the header: one value per layer, and tags."""
_LONGEST_STRING = 16 * 2**20
_LONGEST_NAME = 1024
_MOST_DIMS = 4
_SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_FLOAT32, _STRING, _ARRAY = 6, 8, 9
_SHORTEST_STRING = 8  # its length alone
_FETCH = "Fetch the file again."


@dataclass(frozen=True)
class LongArray:
    """A skipped array: ``count`` elements of GGUF's type ``kind`` from byte ``offset`` of the file."""

    path: Path
    kind: int
    count: int
    offset: int


Scalar = str | int | float | bool
Value = Scalar | list[Scalar] | LongArray


@dataclass(frozen=True)
class StoredTensor:
    """Location of a tensor: ``shape`` in torch's order, ``offset`` and ``size`` in bytes of the file ``path``."""

    path: Path
    shape: tuple[int, ...]
    format: GGMLQuantizationType
    offset: int
    size: int


@dataclass(frozen=True)
class Header:
    """Header of one GGUF file. Both mappings are in the file's order."""

    path: Path
    metadata: dict[str, Value]
    tensors: dict[str, StoredTensor]


class HeaderIncompleteError(Exception):
    """The header continues beyond the available part of the file."""


def read_header(path: Path, *, present: int | None = None) -> Header:
    """The metadata and the table of tensors of the file ``path``, without its weights.

    ``present``: available bytes from its beginning, if not all; later bytes are undefined.

    Raises:
        HeaderIncompleteError: more bytes are needed.
        CorruptModelError: not a GGUF file, truncated, or impossible counts.
        UnsupportedArchitectureError: a tensor has a format that the installed ``gguf`` does not know.
    """
    status = path.stat()
    if not stat.S_ISREG(status.st_mode) or status.st_size < 24:
        raise corrupt(path, "it is truncated, or not a GGUF file")
    with path.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as data:
        reader = _Reader(path, data)
        try:
            header = reader.header()
        except (CorruptModelError, UnsupportedArchitectureError):
            reader.require(present)
            raise
        except (struct.error, UnicodeDecodeError) as error:
            reader.require(present)
            raise corrupt(path, "it ends within its header, or its header is damaged") from error
        reader.require(present)
        return header


def read_array(array: LongArray) -> list[Scalar]:
    """The elements of an array that :func:`read_header` has skipped."""
    with array.path.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as data:
        reader = _Reader(array.path, data, array.offset)
        return [reader.scalar(array.kind) for _ in range(array.count)]


def corrupt(path: Path, what: str, remedy: str = _FETCH) -> CorruptModelError:
    """The error of a damaged or invalid file."""
    return CorruptModelError(f"The model file {path.name} cannot be used: {what}.", field="model", remedy=remedy)


class _Reader:
    """A position in the header of a file."""

    def __init__(self, path: Path, data: mmap.mmap, place: int = 0) -> None:
        self.path = path
        self.data = data
        self.place = place

    def header(self) -> Header:
        if self.data[:4] != _MAGIC:
            raise corrupt(self.path, "it is not a GGUF file")
        self.place = 4
        version = self.number("I")
        if version not in _VERSIONS:
            raise corrupt(
                self.path,
                f"it has version {version & 65535 or 'big-endian'} of the format; supported versions are 2 and 3",
                "Convert the model again with a current llama.cpp.",
            )
        tensors, keys = self.count("tensors", _MOST_TENSORS, 24), self.count("keys", _MOST_KEYS, 13)
        metadata: dict[str, Value] = {}
        for _ in range(keys):
            key = self.string(_LONGEST_NAME)
            if key in metadata:
                raise corrupt(self.path, f"its header contains {key!r} twice")
            metadata[key] = self.value()
        return Header(self.path, metadata, self.tensors(tensors, metadata))

    def require(self, present: int | None) -> None:
        """Raise :class:`HeaderIncompleteError` if bytes after ``present`` were read."""
        if present is not None and self.place > present:
            raise HeaderIncompleteError

    def number(self, code: str) -> int:
        (value,) = struct.unpack_from(f"<{code}", self.data, self.place)
        self.place += struct.calcsize(f"<{code}")
        return int(value)

    def count(self, what: str, limit: int, least_bytes: int) -> int:
        """A count of items of at least ``least_bytes`` bytes each, which must fit into the file."""
        count = self.number("Q")
        if count > limit or count * least_bytes > len(self.data) - self.place:
            raise corrupt(self.path, f"its header announces {count} {what}, more than a model or the file can hold")
        return count

    def string(self, limit: int = _LONGEST_STRING) -> str:
        length = self.count("bytes of text", limit, 1)
        self.place += length
        return self.data[self.place - length : self.place].decode()

    def scalar(self, kind: int) -> Scalar:
        if kind == _STRING:
            return self.string()
        code = _SCALARS.get(kind)
        if code is None:
            raise corrupt(self.path, f"its header has a value of the unknown type {kind}")
        (value,) = struct.unpack_from(f"<{code}", self.data, self.place)
        self.place += struct.calcsize(f"<{code}")
        return _shortest(value) if kind == _FLOAT32 else value

    def value(self) -> Value:
        kind = self.number("I")
        if kind != _ARRAY:
            return self.scalar(kind)
        kind = self.number("I")
        code = _SCALARS.get(kind)
        if code is None and kind != _STRING:
            raise corrupt(self.path, f"its header has an array of the unknown type {kind}")
        width = _SHORTEST_STRING if code is None else struct.calcsize(f"<{code}")
        count = self.count("elements of an array", _MOST_ELEMENTS, width)
        if count <= _KEPT_ELEMENTS:
            return [self.scalar(kind) for _ in range(count)]
        array = LongArray(self.path, kind, count, self.place)
        if code is None:
            self.skip_strings(count)
        else:
            self.place += count * width
        return array

    def skip_strings(self, count: int) -> None:
        place, end, length = self.place, len(self.data), struct.Struct("<Q")
        for _ in range(count):
            place += 8 + length.unpack_from(self.data, place)[0]
            if place > end:
                self.place = place
                raise corrupt(self.path, "it ends within its header: it is truncated")
        self.place = place

    def tensors(self, count: int, metadata: dict[str, Value]) -> dict[str, StoredTensor]:
        entries = [self.tensor_entry() for _ in range(count)]
        alignment = metadata.get("general.alignment", 32)
        if not isinstance(alignment, int) or alignment < 8 or alignment > 2**20 or alignment & (alignment - 1):
            raise corrupt(self.path, f"general.alignment is {alignment!r}")
        start = -(-self.place // alignment) * alignment
        tensors: dict[str, StoredTensor] = {}
        for name, shape, kind, offset in entries:
            if name in tensors:
                raise corrupt(self.path, f"it holds the tensor {name!r} twice")
            tensors[name] = self.stored(name, shape, kind, start + offset)
        self.refuse_overlaps(tensors)
        return tensors

    def tensor_entry(self) -> tuple[str, tuple[int, ...], int, int]:
        name = self.string(_LONGEST_NAME)
        dims = self.number("I")
        if not 1 <= dims <= _MOST_DIMS:
            raise corrupt(self.path, f"the tensor {name!r} has {dims} dimensions")
        sizes = tuple(self.number("Q") for _ in range(dims))
        return name, sizes[::-1], self.number("I"), self.number("Q")

    def stored(self, name: str, shape: tuple[int, ...], kind: int, offset: int) -> StoredTensor:
        form = _readable(kind)
        if form is None:
            raise UnsupportedArchitectureError(
                f"{self.path.name} stores {name!r} in the format {kind} of GGML, which is not supported.",
                field="model",
                remedy="Give the model in another format, such as F16 or Q8_0, or as safetensors.",
            )
        block, size = GGML_QUANT_SIZES[form]
        if min(shape) < 1 or shape[-1] % block:
            raise corrupt(self.path, f"the tensor {name!r} has the shape {shape}, which {form.name} does not support")
        size *= math.prod(shape) // block
        if offset + size > len(self.data):
            raise corrupt(self.path, f"it ends within the tensor {name!r}: it is truncated")
        return StoredTensor(self.path, shape, form, offset, size)

    def refuse_overlaps(self, tensors: dict[str, StoredTensor]) -> None:
        end = 0
        for name, tensor in sorted(tensors.items(), key=lambda item: item[1].offset):
            if tensor.offset < end:
                raise corrupt(self.path, f"the tensor {name!r} overlaps another")
            end = tensor.offset + tensor.size


@cache
def _readable(kind: int) -> GGMLQuantizationType | None:
    """The format of that number if the installed ``gguf`` can unpack it to floating point."""
    try:
        form = GGMLQuantizationType(kind)
        dequantize(np.zeros((1, GGML_QUANT_SIZES[form][1]), np.uint8), form)
    except (ValueError, KeyError, NotImplementedError):
        return None
    return form


def _shortest(value: float) -> float:
    """The shortest decimal number that equals ``value`` in 32 bits, such as 1e-06, as in the original config."""
    if not math.isfinite(value):
        return value
    for digits in range(6, 10):
        candidate = float(f"{value:.{digits}g}")
        if struct.pack("<f", candidate) == struct.pack("<f", value):
            return candidate
    return value

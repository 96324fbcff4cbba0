"""Find the weight files of a local model and check their headers."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from qpruner_core.errors import ModelNotFoundError, UnsafeModelError
from qpruner_core.models.json_files import LARGEST_JSON, corrupt_file, parse_object, read_json_object, require_regular

INDEX_FILE = "model.safetensors.index.json"
WEIGHT_FILE = "model.safetensors"
OWN_INDEX_FILE = "qpruner.safetensors.index.json"
OWN_WEIGHT_FILE = "qpruner.safetensors"
"""Names that no other package looks for, for weights that transformers would misinterpret."""
_DTYPE_BITS = {
    "F64": 64, "I64": 64, "U64": 64, "F32": 32, "I32": 32, "U32": 32, "F16": 16, "BF16": 16, "I16": 16, "U16": 16,
    "F8_E4M3": 8, "F8_E5M2": 8, "F8_E8M0": 8, "I8": 8, "U8": 8, "BOOL": 8, "F4": 4, "C64": 64,
}  # fmt: skip
LARGEST_HEADER = 10_000_000
"""Most bytes of a header; that of a file with 36,000 tensors has 5 million."""
_LARGEST_HEADERS = 25_000_000  # of all shards together
_MOST_DIMENSIONS = 8
_PICKLED_SUFFIXES = (".bin", ".pt", ".pth", ".ckpt", ".pkl")

TensorShapes = dict[str, tuple[tuple[int, ...], str]]
"""Shape and dtype (as safetensors writes it: ``"BF16"``) of each tensor by its name."""


@dataclass(frozen=True)
class Checkpoint:
    """Weight files of a model by name, their declared tensors, and the file of each tensor."""

    files: tuple[str, ...]
    tensors: TensorShapes
    places: dict[str, str]

    @property
    def weight_bytes(self) -> int:
        """Bytes of all tensors."""
        return sum(tensor_bytes(shape, dtype) for shape, dtype in self.tensors.values())


def tensor_bytes(shape: tuple[int, ...], dtype: str) -> int:
    """Bytes of a tensor of that shape and safetensors dtype."""
    return math.prod(shape) * _DTYPE_BITS.get(dtype, 16) // 8


def read_checkpoint(directory: Path) -> Checkpoint:
    """The weights of ``directory``, checked without reading them.

    Raises:
        CorruptModelError: a shard is missing or truncated, a header is invalid, or two shards hold one tensor.
        UnsafeModelError: there are only pickled weights.
        ModelNotFoundError: there are no weights.
    """
    files = weight_files(directory)
    require_bounded_headers(_header_bytes(directory / name) for name in files)
    tensors: TensorShapes = {}
    places: dict[str, str] = {}
    for name in files:
        found = read_header(directory / name)
        if twice := sorted(set(found) & set(tensors)):
            raise corrupt_file(name, f"it holds the tensor {twice[0]!r}, which another shard also holds")
        tensors.update(found)
        places.update(dict.fromkeys(found, name))
    index = _index_of(files[0])
    if files != (index.removesuffix(".index.json"),):
        missing = sorted(set(_weight_map(directory / index)) - set(tensors))
        if missing:
            raise corrupt_file(index, f"it names the tensor {missing[0]!r}, which no shard holds")
    if not tensors:
        raise corrupt_file(files[0], "it holds no tensors")
    return Checkpoint(files, tensors, places)


def weight_files(directory: Path) -> tuple[str, ...]:
    """Names of the safetensors files of ``directory``, in order. As in transformers, an index beside
    ``model.safetensors`` is ignored. Without either, the files of our own names. Raises as :func:`read_checkpoint`
    does."""
    names = [(WEIGHT_FILE, INDEX_FILE), (OWN_WEIGHT_FILE, OWN_INDEX_FILE)]
    for whole, _ in names:
        require_regular(directory / whole)
        if (directory / whole).is_file():
            return (whole,)
    for _, listing in names:
        require_regular(directory / listing)
    index = next((directory / listing for _, listing in names if (directory / listing).is_file()), None)
    if index is None:
        refuse_without_safetensors([path.name for path in directory.iterdir() if path.is_file()], directory.name)
    shards = shards_of_index(index)
    for name in shards:
        require_regular(directory / name)
        if not (directory / name).is_file():
            raise corrupt_file(index.name, f"it names the shard {name!r}, which is missing")
    return shards


def _index_of(file: str) -> str:
    """The index that lists a weight file."""
    return OWN_INDEX_FILE if file.startswith(OWN_WEIGHT_FILE.partition(".")[0]) else INDEX_FILE


def require_bounded_headers(sizes: Iterable[int]) -> None:
    """Raise :class:`CorruptModelError` if headers of these ``sizes`` exceed those of any model."""
    if (total := sum(sizes)) > _LARGEST_HEADERS:
        raise corrupt_file(INDEX_FILE, f"the headers of its shards have {total} bytes together")


def shards_of_index(index: Path) -> tuple[str, ...]:
    """Names of the weight files that ``index`` (``model.safetensors.index.json``) lists."""
    return tuple(sorted(set(_weight_map(index).values())))


def refuse_without_safetensors(names: list[str], model: str) -> NoReturn:
    """Raise the error of a model whose files are ``names``, without safetensors weights."""
    pickled = sorted(name for name in names if name.endswith(_PICKLED_SUFFIXES) and name != "training_args.bin")
    if pickled:
        raise UnsafeModelError(
            f"The model {model!r} has only pickled weights ({pickled[0]}), which can run code when they are read.",
            field="model",
            remedy=(
                "If you trust it, convert it to safetensors: "
                'AutoModelForCausalLM.from_pretrained(...).save_pretrained(DIR) writes "model.safetensors".'
            ),
        )
    raise ModelNotFoundError(
        f"The model {model!r} has no weights: neither model.safetensors nor {INDEX_FILE} nor a .gguf file.",
        field="model",
        remedy="Give the directory that holds config.json and the safetensors files.",
    )


def read_header(path: Path) -> TensorShapes:
    """Shapes and dtypes from the header of one safetensors file, in the order of their position.

    Raises:
        CorruptModelError: the header is invalid, its tensors overlap or leave gaps, or the file has another size than
            the header declares.
    """
    size, length = path.stat().st_size, _header_bytes(path)
    with path.open("rb") as stream:
        header = stream.read(8 + length)[8:]
    if len(header) < length:
        raise corrupt_file(path.name, "it ends within its header: the file is truncated")
    try:
        tensors, end = parse_header(header)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise corrupt_file(path.name, "its header is not readable") from error
    if size != 8 + length + end:
        what = "truncated" if size < 8 + length + end else "longer than its header declares"
        raise corrupt_file(path.name, f"it has {size} bytes, but its header requires {8 + length + end}: it is {what}")
    return tensors


def parse_header(header: bytes) -> tuple[TensorShapes, int]:
    """The tensors of a header (without its length), in the order of their position, and their bytes.

    Raises:
        ValueError, TypeError, KeyError, AttributeError, RecursionError: the header is invalid.
    """
    return _parse_entries(parse_object(header))


def _header_bytes(path: Path) -> int:
    """Bytes of the header of a safetensors file, from its first eight."""
    with path.open("rb") as stream:
        first = stream.read(8)
    length = int.from_bytes(first, "little")
    if len(first) < 8 or length < 2:
        raise corrupt_file(path.name, "its first bytes are not a safetensors header")
    if length > LARGEST_HEADER:
        raise corrupt_file(path.name, f"its header has {length} bytes, more than the limit of {LARGEST_HEADER}")
    return length


def _parse_entries(entries: dict[str, Any]) -> tuple[TensorShapes, int]:
    """The tensors by position, which must be contiguous, and the end of the last one."""
    entries.pop("__metadata__", None)
    tensors: TensorShapes = {}
    end = 0
    for name, entry in sorted(entries.items(), key=lambda item: tuple(item[1]["data_offsets"])):
        shape, dtype = tuple(entry["shape"]), entry["dtype"]
        first, last = entry["data_offsets"]
        if len(shape) > _MOST_DIMENSIONS or not all(type(size) is int and size >= 0 for size in (*shape, first, last)):
            raise ValueError(f"{name} has no shape")
        if dtype not in _DTYPE_BITS or first != end or last - first != tensor_bytes(shape, dtype):
            raise ValueError(f"{name} does not fill its range")
        tensors[name] = (shape, dtype)
        end = last
    return tensors, end


def _weight_map(index: Path) -> dict[str, str]:
    values = read_json_object(index, most_bytes=LARGEST_JSON)
    try:
        names = {str(tensor): str(file) for tensor, file in values["weight_map"].items()}
    except (TypeError, KeyError, AttributeError) as error:
        raise corrupt_file(index.name, "it is not an index of shards") from error
    if not names or any(Path(file).name != file for file in names.values()):
        raise corrupt_file(index.name, "it names no shards, or shards outside the model's directory")
    return names

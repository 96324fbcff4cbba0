"""The weight files of a local model: found, and checked by their headers alone."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from qpruner_core.errors import CorruptModelError, ModelNotFoundError, UnsafeModelError

INDEX_FILE = "model.safetensors.index.json"
WEIGHT_FILE = "model.safetensors"
_DTYPE_BITS = {
    "F64": 64, "I64": 64, "U64": 64, "F32": 32, "I32": 32, "U32": 32, "F16": 16, "BF16": 16, "I16": 16, "U16": 16,
    "F8_E4M3": 8, "F8_E5M2": 8, "F8_E8M0": 8, "I8": 8, "U8": 8, "BOOL": 8, "F4": 4, "C64": 64,
}  # fmt: skip
_LARGEST_HEADER = 100_000_000  # the format's own limit
_PICKLED_SUFFIXES = (".bin", ".pt", ".pth", ".ckpt", ".pkl")

TensorShapes = dict[str, tuple[tuple[int, ...], str]]
"""Shape and dtype (as safetensors writes it: ``"BF16"``) of each tensor by its name."""


@dataclass(frozen=True)
class Checkpoint:
    """Weight files of a model by name, and the tensors that their headers declare."""

    files: tuple[str, ...]
    tensors: TensorShapes

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
        CorruptModelError: a shard is missing, truncated, or its header is not one.
        UnsafeModelError: only pickled weights are there.
        ModelNotFoundError: no weights are there.
    """
    files = weight_files(directory)
    tensors: TensorShapes = {}
    for name in files:
        tensors.update(read_header(directory / name))
    if (directory / INDEX_FILE).is_file():
        missing = sorted(set(_weight_map(directory / INDEX_FILE)) - set(tensors))
        if missing:
            raise _corrupt(INDEX_FILE, f"it names the tensor {missing[0]!r}, which no shard holds")
    if not tensors:
        raise _corrupt(files[0], "it holds no tensors")
    return Checkpoint(files, tensors)


def weight_files(directory: Path) -> tuple[str, ...]:
    """Names of the safetensors files of ``directory``, in order. Raises as :func:`read_checkpoint` does."""
    index = directory / INDEX_FILE
    if not index.is_file():
        if not (directory / WEIGHT_FILE).is_file():
            names = [path.name for path in directory.iterdir() if path.is_file()]
            refuse_without_safetensors(names, directory.name)
        return (WEIGHT_FILE,)
    shards = sorted(set(_weight_map(index).values()))
    for name in shards:
        if not (directory / name).is_file():
            raise _corrupt(INDEX_FILE, f"it names the shard {name!r}, which is missing")
    return tuple(shards)


def shards_of_index(index: Path) -> tuple[str, ...]:
    """Names of the weight files that ``index`` (``model.safetensors.index.json``) lists."""
    return tuple(sorted(set(_weight_map(index).values())))


def refuse_without_safetensors(names: list[str], model: str) -> None:
    """Raise the error that fits a model whose files are ``names``, none of them safetensors weights."""
    pickled = sorted(name for name in names if name.endswith(_PICKLED_SUFFIXES) and name != "training_args.bin")
    if pickled:
        raise UnsafeModelError(
            f"The model {model!r} has only pickled weights ({pickled[0]}), which can run code when they are read.",
            field="model",
            remedy="Convert it to safetensors where you trust it: "
            'AutoModelForCausalLM.from_pretrained(...).save_pretrained(DIR) writes "model.safetensors".',
        )
    raise ModelNotFoundError(
        f"The model {model!r} has no weights: neither model.safetensors nor {INDEX_FILE} nor a .gguf file.",
        field="model",
        remedy="Give the directory that holds config.json and the safetensors files.",
    )


def read_header(path: Path) -> TensorShapes:
    """Shapes and dtypes from the header of one safetensors file, checked against the size of the file.

    Raises:
        CorruptModelError: the header is no header, or the file is shorter than the header says.
    """
    size = path.stat().st_size
    with path.open("rb") as stream:
        length = int.from_bytes(stream.read(8), "little")
        if size < 8 or length > _LARGEST_HEADER or length < 2:
            raise _corrupt(path.name, "its first bytes are not a safetensors header")
        header = stream.read(length)
    if len(header) < length:
        raise _corrupt(path.name, "it ends within its header: the file is truncated")
    try:
        entries = json.loads(header)
        tensors, end = _parse_entries(entries)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise _corrupt(path.name, "its header is not readable") from error
    if size != 8 + length + end:
        what = "truncated" if size < 8 + length + end else "longer than its header says"
        raise _corrupt(path.name, f"it has {size} bytes where its header asks for {8 + length + end}: it is {what}")
    return tensors


def _parse_entries(entries: dict[str, Any]) -> tuple[TensorShapes, int]:
    tensors: TensorShapes = {}
    end = 0
    for name, entry in entries.items():
        if name == "__metadata__":
            continue
        shape, dtype = tuple(int(size) for size in entry["shape"]), str(entry["dtype"])
        first, last = entry["data_offsets"]
        if dtype in _DTYPE_BITS and last - first != tensor_bytes(shape, dtype):
            raise ValueError(f"{name} does not fill its place")
        tensors[name] = (shape, dtype)
        end = max(end, int(last))
    return tensors, end


def _weight_map(index: Path) -> dict[str, str]:
    try:
        weight_map = json.loads(index.read_text(encoding="utf-8"))["weight_map"]
        names = {str(tensor): str(file) for tensor, file in weight_map.items()}
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise _corrupt(index.name, "it is not an index of shards") from error
    if not names or any(Path(file).name != file for file in names.values()):
        raise _corrupt(index.name, "it names no shards, or shards outside the model's directory")
    return names


def _corrupt(name: str, what: str) -> CorruptModelError:
    return CorruptModelError(
        f"{name} of the model cannot be used: {what}.", field="model", remedy="Fetch or export the model again."
    )

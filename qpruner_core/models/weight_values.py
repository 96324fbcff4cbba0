"""Checks of the values of a model's weights: one pass over each file, in pieces of bounded size."""

from __future__ import annotations

import hashlib
from contextlib import ExitStack
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import safe_open
from transformers import PretrainedConfig

from qpruner_core.errors import CorruptModelError
from qpruner_core.models.checkpoint import Checkpoint, TensorShapes, read_header, tensor_bytes
from qpruner_core.models.families import find_family
from qpruner_core.models.tensor_checks import is_constant, is_layer_tensor

_PIECE = 4 * 2**20  # bytes
_SAMPLED_ROWS, _LAST_ROWS = 16, 64
_OTHER_TABLES = ("wpe.weight", "embed_positions.weight", "project_in.weight", "project_out.weight")
"""Of GPT-2 and OPT: tensors that may have the shape of the embeddings by chance."""


class _Bits(NamedTuple):
    """Bit patterns of a float type: the smallest positive one that is not finite in 16 bits (``least``), and all bits
    but the sign."""

    signed: type[np.signedinteger]
    unsigned: type[np.unsignedinteger]
    least: int


# A float32 from 0x7F7F8000 on is rounded to infinity in bfloat16
_BITS = {
    "BF16": _Bits(np.int16, np.uint16, 0x7F80),
    "F16": _Bits(np.int16, np.uint16, 0x7C00),
    "F32": _Bits(np.int32, np.uint32, 0x7F7F8000),
}
_LARGEST_BF16 = float(torch.finfo(torch.bfloat16).max)


def checked_sha256(path: Path) -> str:
    """SHA-256 (hex) of a safetensors file whose weights are finite in 16 bits.

    Raises:
        CorruptModelError: a weight is NaN or infinite, or would be in bfloat16; or the header is invalid.
    """
    digest = hashlib.sha256()
    tensors = read_header(path)
    with path.open("rb") as stream:
        first = stream.read(8)
        digest.update(first + stream.read(int.from_bytes(first, "little")))
        for name, (shape, dtype) in tensors.items():
            _read_tensor(stream, name, tensor_bytes(shape, dtype), dtype, digest)
    return digest.hexdigest()


def _read_tensor(stream: BinaryIO, name: str, left: int, dtype: str, digest: hashlib._Hash) -> None:
    while left > 0:
        piece = stream.read(min(left, _PIECE))
        if not piece:
            raise _corrupt("they end before the end declared by their header")
        digest.update(piece)
        if not is_constant(name) and not _is_finite(piece, dtype):
            raise _corrupt(f"{name!r} contains NaN or infinite values")
        left -= len(piece)


def _is_finite(piece: bytes, dtype: str) -> bool:
    if dtype == "F64":
        return bool(np.all(np.abs(np.frombuffer(piece, np.float64)) <= _LARGEST_BF16))  # NaN is not <=
    bits = _BITS.get(dtype)
    if bits is None:
        return True
    # The largest positive float has the largest bits, the largest negative one without its sign; no copy is made
    positive: NDArray[np.signedinteger] = np.frombuffer(piece, bits.signed)
    negative: NDArray[np.unsignedinteger] = np.frombuffer(piece, bits.unsigned)
    sign = 1 << (8 * np.dtype(bits.signed).itemsize - 1)
    return bool(positive.max() < bits.least and negative.max() < bits.least + sign)


def has_own_head(directory: Path, config: PretrainedConfig, checkpoint: Checkpoint, *, sample: bool = False) -> bool:
    """Whether the weights hold a head that differs from the embeddings to which ``config`` ties it.

    As in transformers, the files decide: equal tensors are tied, different ones are not. They are compared as bfloat16.
    ``sample``: compare some rows only, including the last ones, where added tokens are. That is almost always
    sufficient and costs no more than reading headers.
    """
    names = _tables(config, checkpoint.tensors) if config.tie_word_embeddings else []
    if len(names) < 2:
        return False
    rows, columns = checkpoint.tensors[names[0]][0]
    step = 1 if sample else max(1, _PIECE // (columns * 4))
    starts = list(range(0, rows, max(1, rows // _SAMPLED_ROWS) if sample else step))
    if sample:
        starts += range(max(0, rows - _LAST_ROWS), rows)
    with ExitStack() as stack:
        files = [stack.enter_context(safe_open(directory / checkpoint.places[name], framework="pt")) for name in names]
        first, second = (file.get_slice(name) for file, name in zip(files, names, strict=True))
        return any(
            not torch.equal(first[at : at + step].to(torch.bfloat16), second[at : at + step].to(torch.bfloat16))
            for at in starts
        )


def _tables(config: PretrainedConfig, tensors: TensorShapes) -> list[str]:
    """Stored names of embeddings and head: outside the layers no other tensor has their shape."""
    family = find_family(config.model_type)
    shape = (config.vocab_size, getattr(config, "word_embed_proj_dim", config.hidden_size))
    found = sorted(name for name, (size, _) in tensors.items() if size == shape)
    return [name for name in found if not is_layer_tensor(name, family) and not name.endswith(_OTHER_TABLES)][:2]


def _corrupt(what: str) -> CorruptModelError:
    return CorruptModelError(
        f"The model's weights cannot be used: {what}.",
        field="model",
        remedy="Download or export the model again, or find out where its training diverged.",
    )

"""The tensors of a GGUF file as those of the transformers model: checked by their headers, and read."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from gguf.quants import dequantize
from transformers import PretrainedConfig

from qpruner_core.errors import UnsupportedArchitectureError
from qpruner_core.models.checkpoint import TensorShapes
from qpruner_core.models.gguf.architectures import Architecture
from qpruner_core.models.gguf.header import StoredTensor, corrupt
from qpruner_core.models.gguf.keys import AS_SAFETENSORS
from qpruner_core.models.gguf.layouts import transposed
from qpruner_core.models.gguf.rope import FACTOR_TENSORS
from qpruner_core.models.gguf.split import GgufModel

_AT_ONCE = 2**22
"""Weights unpacked at once; unpacking takes about ten times their bytes in 32 bits."""


def account_for_tensors(model: GgufModel, architecture: Architecture, expected: TensorShapes) -> None:
    """Check that the file holds every tensor of ``expected`` (by transformers' names and shapes) and no other.

    Raises:
        CorruptModelError: a tensor is missing, has another shape, or is unknown to the architecture.
        UnsupportedArchitectureError: the installed transformers has an undeclared parameter.
    """
    used = {name for name in FACTOR_TENSORS if name in model.tensors}  # they are part of the config
    for parameter, (shape, _) in expected.items():
        names = architecture.stored_names(parameter)
        if not names:
            raise UnsupportedArchitectureError(
                f"The installed transformers has {parameter!r} here, but no GGUF tensor is known for it.",
                field="model",
                remedy=AS_SAFETENSORS,
            )
        for name in names:
            if name not in model.tensors:
                raise corrupt(model.path, f"it lacks the tensor {name!r}")
        used.update(names)
        found = _stacked_shape([model.tensors[name].shape for name in names])
        if architecture.layout(parameter) is transposed:
            found = found[::-1]
        if found != shape:
            raise corrupt(model.path, f"{names[0]!r} has the shape {found}, but its metadata require {shape}")
    surplus = sorted(model.tensors.keys() - used)
    if surplus:
        raise corrupt(
            model.path,
            f"it holds {surplus[0]!r}, which is unknown to the architecture",
            AS_SAFETENSORS,
        )


def read_parameter(
    parameter: str,
    stored: Mapping[str, StoredTensor],
    architecture: Architecture,
    config: PretrainedConfig,
    dtype: torch.dtype = torch.bfloat16,
) -> torch.Tensor:
    """``parameter`` of the transformers model in ``dtype``, unpacked a part at a time.

    ``config``: that of the parameter's layer, if layers differ.
    """
    parts = [read_tensor(stored[name], dtype) for name in architecture.stored_names(parameter)]
    whole = parts[0] if len(parts) == 1 else torch.cat(parts, dim=max(parts[0].dim() - 2, 0))
    return architecture.layout(parameter)(whole, config).to(dtype).contiguous()


def read_tensor(tensor: StoredTensor, dtype: torch.dtype) -> torch.Tensor:
    """A tensor in ``dtype``, or if one-dimensional in 32-bit floating point, which layouts compute with."""
    count = int(np.prod(tensor.shape[:-1], dtype=np.int64))
    width = tensor.size // count
    found = torch.empty(count, tensor.shape[-1], dtype=torch.float32 if len(tensor.shape) == 1 else dtype)
    step = max(1, _AT_ONCE // tensor.shape[-1])
    with tensor.path.open("rb") as stream:
        stream.seek(tensor.offset)
        for first in range(0, count, step):
            last = min(first + step, count)
            data = np.frombuffer(stream.read((last - first) * width), np.uint8).reshape(last - first, width)
            found[first:last] = torch.from_numpy(np.array(dequantize(data, tensor.format), np.float32))
    return found.view(tensor.shape)


def _stacked_shape(shapes: list[tuple[int, ...]]) -> tuple[int, ...]:
    if len(shapes) == 1:
        return shapes[0]
    first = shapes[0]
    if any(shape[:-2] != first[:-2] or shape[-1] != first[-1] for shape in shapes):
        return ()
    return (*first[:-2], sum(shape[-2] for shape in shapes), first[-1])

"""The tensors of a file and their bytes, from shapes and types alone.

The writer writes exactly this list, so that predicted bytes equal those of the file.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass

import torch
from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType
from transformers import PretrainedConfig

from qpruner_core.models.families import EVERY
from qpruner_core.models.gguf.architectures import Architecture
from qpruner_core.models.gguf.layouts import transposed
from qpruner_core.models.model_config import expected_tensors
from qpruner_core.targets.gguf.loaders import Loader, loader_of
from qpruner_core.targets.gguf.refusal import Refusal
from qpruner_core.targets.gguf.rope import factor_tensors

TypeOf = Callable[[str], GGMLQuantizationType]
"""The type of a parameter of the model, by name; not called for those that are always in 32 bits. The weights of all
experts of a layer have one type, that of the first."""

ALIGNMENT = 32
"""Alignment of tensors in the file, in bytes."""
_FLOAT = GGMLQuantizationType.F32
_ALWAYS_FLOAT = ("_norm.weight", "ffn_gate_inp.weight", "position_embd.weight")


@dataclass(frozen=True)
class PlannedTensor:
    """A tensor of the file: ``shape`` in torch's order, consisting of the rows ``first`` to ``last`` of ``parameter``.

    Rows are counted along the second to last dimension (of a vector: its entries), after reordering to the file's
    order. ``parameter`` is ``None`` for tensors that are part of the config. The weights of all experts are one tensor,
    of which ``parameter`` is one, with ``*`` in place of the expert's number; see :meth:`parameters`.
    """

    name: str
    shape: tuple[int, ...]
    type: GGMLQuantizationType
    parameter: str | None
    first: int = 0
    last: int = 0

    @property
    def bytes(self) -> int:
        """The bytes of its values, without alignment."""
        return stored_bytes(self.shape, self.type)

    @property
    def parameters(self) -> list[str]:
        """Names of the parameters that it consists of: one per expert, in order, or one."""
        if self.parameter is None:
            return []
        if not self.of_experts:
            return [self.parameter]
        return [self.parameter.replace(EVERY, str(number)) for number in range(self.shape[0])]

    @property
    def of_experts(self) -> bool:
        """Whether it holds a weight of every expert of a layer."""
        return self.parameter is not None and EVERY in self.parameter


def stored_bytes(shape: tuple[int, ...], form: GGMLQuantizationType) -> int:
    """The bytes of a tensor of ``shape`` in ggml.

    Raises:
        ValueError: a row is not a multiple of the type's block.
    """
    block, size = GGML_QUANT_SIZES[form]
    if shape[-1] % block:
        raise ValueError(f"a row of {shape[-1]} values is not a multiple of the {block} in a block of {form.name}")
    return int(math.prod(shape) // block * size)


def planned_tensors(config: PretrainedConfig, type_of: TypeOf) -> list[PlannedTensor]:
    """The tensors of the file of a model of ``config``, in order.

    Norms, biases, the experts' router, positions of GPT-2 and factors of rotary positions are in 32 bits.

    Raises:
        UnsupportedByTargetError: no architecture of llama.cpp supports the model, or a row does not fit its type.
    """
    loader = loader_of(config)
    found = [PlannedTensor(name, tuple(tensor.shape), _FLOAT, None) for name, tensor in factor_tensors(config).items()]
    for parameter, (shape, _) in expected_tensors(config).items():
        found += _parts(parameter, shape, loader, config, type_of)
    return found


def tensor_bytes(config: PretrainedConfig, type_of: TypeOf) -> int:
    """The bytes of all tensors of the file, which llama.cpp prints as the model's size. Raises as the plan."""
    return sum(tensor.bytes for tensor in planned_tensors(config, type_of))


def other_tensor_bytes(
    config: PretrainedConfig,
    counted_elsewhere: Collection[str],
    others: GGMLQuantizationType = GGMLQuantizationType.BF16,
) -> int:
    """The bytes of the file's tensors except those of the parameters ``counted_elsewhere``, such as quantized weights.

    ``others``: the type of other matrices. Raises as the plan.
    """
    planned = planned_tensors(config, lambda name: others)
    elsewhere = set(counted_elsewhere)
    return sum(tensor.bytes for tensor in planned if elsewhere.isdisjoint(tensor.parameters))


def always_float(name: str, shape: tuple[int, ...]) -> bool:
    """Whether the file's tensor ``name`` is always in 32 bits, as llama.cpp's graphs require."""
    return len(shape) == 1 or name.endswith(_ALWAYS_FLOAT)


def _parts(
    parameter: str, shape: tuple[int, ...], loader: Loader, config: PretrainedConfig, type_of: TypeOf
) -> list[PlannedTensor]:
    declared = loader.declared
    stored = shape[::-1] if declared.layout(parameter) is transposed else shape
    names = declared.stored_names(parameter)
    axis = max(len(stored) - 2, 0)
    if len(stored) == 3:
        return list(_of_experts(parameter, shape, declared, names, type_of))
    parts, first = [], 0
    for name, rows in zip(names, _rows(parameter, stored[axis], len(names), declared, config), strict=True):
        piece = (*stored[:axis], rows, *stored[axis + 1 :])
        form = _FLOAT if always_float(name, piece) else type_of(parameter)
        _require_blocks(parameter, piece, form)
        parts.append(PlannedTensor(name, piece, form, parameter, first, first + rows))
        first += rows
    return parts


def _of_experts(
    parameter: str, shape: tuple[int, ...], declared: Architecture, names: tuple[str, ...], type_of: TypeOf
) -> Iterator[PlannedTensor]:
    """The tensors of the stacked experts ``parameter``: gates, ups or downs of all experts."""
    experts, rows, columns = shape
    piece = experts, rows // len(names), columns
    for name in names:
        one = f"{parameter.rpartition('.')[0]}.{EVERY}.{declared.experts[name.rpartition('.')[0].rpartition('.')[2]]}"
        form = type_of(f"{one}.weight".replace(EVERY, "0"))
        _require_blocks(parameter, piece, form)
        yield PlannedTensor(name, piece, form, f"{one}.weight", 0, piece[1])


def _rows(parameter: str, rows: int, parts: int, declared: Architecture, config: PretrainedConfig) -> list[int]:
    """Number of rows of each tensor that a parameter is split into: halves, or queries, keys and values."""
    if parts != 3:
        return [rows // parts] * parts
    layer = layer_config(config, declared, parameter)
    width = rows // (layer.num_attention_heads + 2 * layer.num_key_value_heads)
    keys = layer.num_key_value_heads * width
    return [layer.num_attention_heads * width, keys, keys]


def layer_config(config: PretrainedConfig, declared: Architecture, parameter: str) -> PretrainedConfig:
    """The config of the layer of ``parameter``, if layers may differ; else ``config`` itself."""
    index, _ = declared.layer_and_path(parameter)
    if not index.isdecimal() or not config.model_type.startswith("qpruner_"):
        return config
    layer: PretrainedConfig = config.per_layer_config[int(index)]
    return layer


def _require_blocks(parameter: str, shape: tuple[int, ...], form: GGMLQuantizationType) -> None:
    try:
        stored_bytes(shape, form)
    except ValueError as error:
        raise Refusal(
            f"{parameter!r} cannot be stored as {form.name.lower()}: {error}.", "Choose another precision for it."
        ).error() from error


def float_type(dtype: torch.dtype) -> GGMLQuantizationType:
    """The type that stores a tensor of ``dtype`` without conversion.

    Raises:
        ValueError: neither bfloat16, float16 nor float32.
    """
    types = {
        torch.bfloat16: GGMLQuantizationType.BF16,
        torch.float16: GGMLQuantizationType.F16,
        torch.float32: GGMLQuantizationType.F32,
    }
    if dtype not in types:
        raise ValueError(f"GGUF has no type for tensors of {dtype}")
    return types[dtype]

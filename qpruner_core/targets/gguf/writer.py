"""Write a model as one GGUF file, tensor by tensor."""

from __future__ import annotations

import math
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from gguf import GGUFWriter
from gguf.constants import GGML_QUANT_VERSION, GGMLQuantizationType, LlamaFileType
from transformers import PretrainedConfig

from qpruner_core.models.families import find_family
from qpruner_core.models.gguf.architectures import Architecture
from qpruner_core.models.gguf.layouts import as_stored, minus_one, stored_rows, transposed
from qpruner_core.targets.gguf.loaders import loader_of
from qpruner_core.targets.gguf.plan import PlannedTensor, float_type, layer_config, planned_tensors
from qpruner_core.targets.gguf.rope import factor_tensors
from qpruner_core.targets.gguf.tokenizer import generation_keys, tokenizer_keys

FAMILY_KEY = "qpruner.model_type"
"""Key of the transformers family that a file was written from."""


@dataclass(frozen=True)
class PackedTensor:
    """A weight as stored by ggml: ``data`` uint8 ``[..., rows, bytes of a row]``, rows being outputs, of ``type``."""

    data: torch.Tensor
    type: GGMLQuantizationType


Weights = Mapping[str, torch.Tensor | PackedTensor]
"""By the names of the transformers model, with separate experts. Each is read twice: for its type, then for its
values."""


def write_gguf(
    path: Path,
    *,
    config: PretrainedConfig,
    weights: Weights,
    tokenizer_directory: Path,
    metadata: Mapping[str, Any] | None = None,
) -> None:
    """Write the model of ``config`` (stock, or of ours with layers that differ) to ``path``.

    ``weights``: every parameter of the model, tied ones once. A plain tensor is written in its own type (bfloat16,
    float16, float32), or in 32 bits if llama.cpp requires that; a packed one byte for byte, except for the order of
    rows. ``tokenizer_directory``: location of the tokenizer, chat template and generation config. ``metadata``: whole
    keys and their values (bool, int, float, str or a list of one of them), see :func:`about_model`.

    Raises:
        UnsupportedByTargetError: llama.cpp does not support the model or its tokenizer; nothing is written then.
        KeyError: a parameter is missing.
        ValueError: a parameter has another shape, or is packed where 32 bits are needed. No partial file is left
            behind.
    """
    loader = loader_of(config)
    planned = planned_tensors(config, lambda name: _type_of(weights[name]))
    tokenizer = tokenizer_keys(tokenizer_directory, config.vocab_size)
    writer = GGUFWriter(None, loader.name)
    keys: dict[str, Any] = {
        "general.type": "model",
        "general.quantization_version": GGML_QUANT_VERSION,
        "general.file_type": int(_file_type(planned)),
        FAMILY_KEY: find_family(config.model_type).model_type,
        **(metadata or {}),
        **{f"{loader.name}.{name}": value for name, value in loader.keys(config).items()},
        **tokenizer,
        **generation_keys(tokenizer_directory, tokenizer.get("tokenizer.ggml.eos_token_id")),
    }
    for name, value in keys.items():
        add_value(writer, name, value)
    for tensor in planned:
        row = tensor.bytes // math.prod(tensor.shape[:-1])
        writer.add_tensor_info(
            tensor.name, (*tensor.shape[:-1], row), np.dtype(np.uint8), tensor.bytes, raw_dtype=tensor.type
        )
    try:
        with closing(writer):
            writer.write_header_to_file(path)
            writer.write_kv_data_to_file()
            writer.write_ti_data_to_file()
            _write_tensors(writer, planned, weights, loader.declared, config)
    except BaseException:
        path.unlink(missing_ok=True)
        raise


def _write_tensors(
    writer: GGUFWriter, planned: list[PlannedTensor], weights: Weights, declared: Architecture, config: PretrainedConfig
) -> None:
    """The values of all tensors; a parameter that is split into several is laid out once."""
    factors = factor_tensors(config)
    parameter, rows = None, torch.empty(0)
    for tensor in planned:
        if tensor.parameter is None:
            part = factors[tensor.name]
        else:
            if tensor.parameter != parameter:
                parameter = tensor.parameter
                rows = (
                    _stacked(tensor, weights)
                    if tensor.of_experts
                    else _laid_out(parameter, weights[parameter], declared, config)
                )
            part = rows[..., tensor.first : tensor.last, :] if rows.dim() > 1 else rows[tensor.first : tensor.last]
        writer.write_tensor_data(_as_bytes(part, tensor))


def _stacked(tensor: PlannedTensor, weights: Weights) -> torch.Tensor:
    """The weights of all experts, packed or as numbers."""
    each = [weights[name] for name in tensor.parameters]
    if len({_type_of(weight) for weight in each}) > 1:
        raise ValueError(f"{tensor.name!r} has one type, but its experts differ")
    return torch.stack([weight.data if isinstance(weight, PackedTensor) else weight.detach() for weight in each])


def _laid_out(
    parameter: str, weight: torch.Tensor | PackedTensor, declared: Architecture, config: PretrainedConfig
) -> torch.Tensor:
    """The parameter with its rows in the file's order, packed or as numbers."""
    layout = declared.layout(parameter)
    packed = isinstance(weight, PackedTensor)
    data = weight.data if isinstance(weight, PackedTensor) else weight.detach()
    if layout is as_stored:
        return data
    if layout is minus_one:
        return data.float() + 1
    if layout is transposed:
        return data if packed else data.T
    rows = stored_rows(layout, data.shape[0], layer_config(config, declared, parameter))
    return data[rows.to(data.device)]


def _as_bytes(part: torch.Tensor, tensor: PlannedTensor) -> np.ndarray[Any, Any]:
    """The values of ``tensor`` as stored in the file: uint8."""
    if part.dtype != torch.uint8:
        if tuple(part.shape) != tensor.shape:
            raise ValueError(f"{tensor.parameter!r} has the shape {tuple(part.shape)} instead of {tensor.shape}")
        dtype = torch.float32 if tensor.type is GGMLQuantizationType.F32 else part.dtype
        part = part.to(dtype).contiguous().cpu().flatten().view(torch.uint8)
    elif part.numel() != tensor.bytes:
        raise ValueError(f"{tensor.parameter!r} has {part.numel()} packed bytes instead of {tensor.bytes}")
    return cast("np.ndarray[Any, Any]", part.contiguous().cpu().numpy())


def _type_of(weight: torch.Tensor | PackedTensor) -> GGMLQuantizationType:
    return weight.type if isinstance(weight, PackedTensor) else float_type(weight.dtype)


def _file_type(planned: list[PlannedTensor]) -> LlamaFileType:
    """llama.cpp's name for a file most of whose bytes are of one type; it is only displayed."""
    sizes: dict[GGMLQuantizationType, int] = {}
    for tensor in planned:
        if tensor.type is not GGMLQuantizationType.F32:
            sizes[tensor.type] = sizes.get(tensor.type, 0) + tensor.bytes
    name = max(sizes, key=sizes.__getitem__).name if sizes else ""
    candidates = (f"MOSTLY_{name}", f"MOSTLY_{name}_M", f"MOSTLY_{name}_S")
    found = next((LlamaFileType[each] for each in candidates if each in LlamaFileType.__members__), None)
    return LlamaFileType.ALL_F32 if not sizes else found or LlamaFileType.GUESSED


def add_value(writer: GGUFWriter, key: str, value: Any) -> None:
    """Add the metadata ``key`` to the header."""
    if isinstance(value, bool):
        writer.add_bool(key, value)
    elif isinstance(value, int):
        writer.add_uint32(key, value)
    elif isinstance(value, float):
        writer.add_float32(key, value)
    elif isinstance(value, str):
        writer.add_string(key, value)
    else:
        writer.add_array(key, value)

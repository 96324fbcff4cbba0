"""Write a checkpoint for vLLM, SGLang and stock transformers."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import torch
from huggingface_hub import split_torch_state_dict_into_shards
from safetensors.torch import save_file
from torch import nn
from transformers import PretrainedConfig, PreTrainedModel
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from qpruner_core.models.checkpoint import INDEX_FILE
from qpruner_core.models.checkpoint_writer import copy_tokenizer
from qpruner_core.models.families import Family, linear_shape, linear_weight
from qpruner_core.models.model_config import CONFIG_FILE
from qpruner_core.models.reshape import copy_modeling_file, own_architectures, shapes_only, without_strange_code
from qpruner_core.precisions import Tensors
from qpruner_core.precisions.compressed_tensors import QUANTIZED
from qpruner_core.targets.compressed_tensors.quantization_config import quantization_config
from qpruner_core.targets.compressed_tensors.support import UNQUANTIZED, fused_modules, supports, torn_apart


def write_compressed_tensors(
    directory: Path,
    *,
    config: PretrainedConfig,
    family: Family,
    tensors: Mapping[str, torch.Tensor],
    precision: Mapping[str, str],
    tokenizer_from: Path | None = None,
    max_shard_size: int = 5_000_000_000,
) -> None:
    """Write a checkpoint of linear modules with ``precision`` (full module name -> name of the precision).

    ``tensors``: every tensor under its full name, as returned by :func:`encode_model`; tied ones once. Modules that
    ``precision`` does not name, the embeddings and the head are in 16 bits: transformers cannot load quantized
    embeddings, and vLLM reads them with Triton's kernels only.

    Raises:
        ValueError: the format does not support the model, modules that vLLM fuses differ, or ``precision`` names
            anything but a linear module of a layer.
    """
    model = shapes_only(config)
    _check(model, family, precision)
    directory.mkdir(parents=True, exist_ok=True)
    without_strange_code(config, family)
    values = json.loads(config.to_json_string())
    pruned = config.model_type == family.pruned_model_type
    # vLLM chooses its own class by this name
    stock = [MODEL_FOR_CAUSAL_LM_MAPPING_NAMES[family.model_type]]
    values["architectures"] = own_architectures(config, family) if pruned else stock
    values["dtype"] = "bfloat16"
    if any(name != UNQUANTIZED for name in precision.values()):
        every = {name: precision.get(name, UNQUANTIZED) for name in _linear_names(model, family)}
        values["quantization_config"] = quantization_config(every, _heads(model))
    (directory / CONFIG_FILE).write_text(json.dumps(values, indent=2, sort_keys=True) + "\n")
    copy_modeling_file(config, family, directory)
    if tokenizer_from is not None:
        copy_tokenizer(tokenizer_from, directory)
    _save(tensors, directory, max_shard_size)


def encode_model(
    model: PreTrainedModel,
    precision: Mapping[str, str],
    importance: Mapping[str, torch.Tensor] | None = None,
) -> Tensors:
    """Tensors of ``model`` with each module rounded to its ``precision``, everything else unchanged; tied ones once.

    ``importance``: mean squares of the inputs, float32 ``[in]``, by module name; modules without it weigh all inputs
    equally.
    """
    quantized = {module: QUANTIZED[name] for module, name in precision.items() if name != UNQUANTIZED}
    tensors: Tensors = {}
    for module, kind in quantized.items():
        weight = linear_weight(model.get_submodule(module))
        encoded = kind.encode(weight, None if importance is None else importance.get(module))
        tensors |= {f"{module}.{name}": tensor for name, tensor in encoded.items()}
    replaced = {f"{module}.weight" for module in quantized}
    others = {name: tensor.data for name, tensor in model.named_parameters() if name not in replaced}
    return tensors | {name: tensor.to(torch.bfloat16) for name, tensor in others.items()}


def tensor_bytes(model: PreTrainedModel, precision: Mapping[str, str]) -> int:
    """Bytes of all tensors of the checkpoint of ``model`` (its weights may be on the meta device), exactly."""
    total: int = sum(2 * parameter.numel() for parameter in model.parameters())
    for module, name in precision.items():
        if name != UNQUANTIZED:
            kind, (rows, columns) = QUANTIZED[name], linear_shape(model.get_submodule(module))
            total += kind.weight_bytes(rows, columns) + kind.constant_bytes(rows, columns) - 2 * rows * columns
    return total


def _check(model: PreTrainedModel, family: Family, precision: Mapping[str, str]) -> None:
    if (reason := supports(model.config)) is not None:
        raise ValueError(f"compressed-tensors does not support this model: {reason}")
    if strange := sorted(set(precision) - set(_linear_names(model, family))):
        raise ValueError(f"{strange[0]} is not a linear module of a layer")
    layers = enumerate(family.decoder_layers(model))
    groups = [group for index, layer in layers for group in fused_modules(family, layer, f"{family.layers}.{index}")]
    if (group := torn_apart(groups, precision)) is not None:
        raise ValueError(f"{' and '.join(group)} must have the same precision: vLLM fuses them")


def _linear_names(model: nn.Module, family: Family) -> list[str]:
    layers = enumerate(family.decoder_layers(model))
    return [f"{family.layers}.{index}.{path}" for index, layer in layers for path in family.linear_paths(layer)]


def _heads(model: PreTrainedModel) -> list[str]:
    head = model.get_output_embeddings()
    return [name for name, module in model.named_modules() if module is head]


def _save(tensors: Mapping[str, torch.Tensor], directory: Path, max_shard_size: int) -> None:
    contents = {name: tensor.contiguous() for name, tensor in sorted(tensors.items())}
    split = split_torch_state_dict_into_shards(
        contents, filename_pattern="model{suffix}.safetensors", max_shard_size=max_shard_size
    )
    for file, names in split.filename_to_tensors.items():
        save_file({name: contents[name] for name in names}, directory / file, {"format": "pt"})
    if split.is_sharded:
        index = {"metadata": split.metadata, "weight_map": split.tensor_to_filename}
        (directory / INDEX_FILE).write_text(json.dumps(index, indent=2, sort_keys=True) + "\n")

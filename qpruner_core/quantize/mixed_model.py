"""A model whose layers have different precisions: written to and loaded from a directory.

The directory has ``config.json`` (with the bits of each layer under ``quantization_config``) and
``model.safetensors`` with the tensors under bitsandbytes' own names.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn
from transformers import AutoConfig, GenerationConfig, PretrainedConfig, PreTrainedModel

from qpruner_core.errors import CorruptModelError
from qpruner_core.models.families import Family, find_family
from qpruner_core.models.reshape import copy_modeling_file, empty_model
from qpruner_core.precisions import Tensors, precisions
from qpruner_core.strict import StrictModel

WEIGHTS = "model.safetensors"
CONFIG = "config.json"
GENERATION_CONFIG = "generation_config.json"


class MixedPrecision(StrictModel):
    """``quantization_config`` of a mixed checkpoint."""

    quant_method: str = "qpruner"
    bits: tuple[int, ...]
    double_quant: bool


def linear_names(family: Family, layer: int) -> list[str]:
    """Full module names of the linear modules of ``layer``."""
    return [f"{family.layers}.{layer}.{path}" for path in family.linears]


def write_mixed_model(
    directory: Path, config: PretrainedConfig, precision: MixedPrecision, tensors: Tensors, family: Family
) -> None:
    """Write a mixed checkpoint. ``tensors``: every tensor under its full name; see :mod:`qpruner_core.precisions`."""
    directory.mkdir(parents=True, exist_ok=True)
    values = json.loads(config.to_json_string())
    values["quantization_config"] = precision.model_dump(mode="json")
    (directory / CONFIG).write_text(json.dumps(values, indent=2, sort_keys=True) + "\n")
    copy_modeling_file(config, family, directory)
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, directory / WEIGHTS, {"format": "pt"})


def read_mixed_config(directory: Path) -> tuple[PretrainedConfig, MixedPrecision, Family]:
    """The model's config and the precision of each layer.

    Raises:
        CorruptModelError: no mixed checkpoint is there.
    """
    try:
        values = json.loads((directory / CONFIG).read_text())
        precision = MixedPrecision.model_validate(values.pop("quantization_config"))
    except (OSError, ValueError, KeyError) as error:
        raise CorruptModelError(
            f"{directory} holds no mixed-precision checkpoint.",
            field="model",
            remedy='Name the directory that has config.json with a "qpruner" quantization_config.',
        ) from error
    family = find_family(values.pop("model_type"))
    kind = family.pruned_model_type if "per_layer_config" in values else family.model_type
    return AutoConfig.for_model(kind, **values), precision, family


def load_mixed_model(
    directory: Path, *, device: str | torch.device = "cpu", dequantize: bool = False
) -> PreTrainedModel:
    """Load a mixed checkpoint onto ``device``, in eval mode.

    With ``dequantize`` every linear module is a plain bfloat16 one with the very values that the quantized module
    computes with: more memory, and on a CPU much less time.

    Raises:
        CorruptModelError: a tensor is missing or too many.
    """
    config, precision, family = read_mixed_config(directory)
    model = empty_model(config)
    kinds = precisions(precision.double_quant)
    with safe_open(directory / WEIGHTS, framework="pt", device=str(device)) as file:
        remaining = set(file.keys())
        for layer, bits in enumerate(precision.bits):
            for name in linear_names(family, layer):
                stored = {key for key in remaining if key.startswith(name + ".")}
                tensors = {key.removeprefix(name + "."): file.get_tensor(key) for key in stored}
                remaining -= stored
                bias = tensors.pop("bias", None)
                kind = kinds[bits]
                if dequantize:
                    tensors, kind = {"weight": kind.decode(tensors)}, kinds[16]
                model.set_submodule(name, kind.build(tensors, bias))
        for key in remaining:
            module, _, parameter = key.rpartition(".")
            setattr(model.get_submodule(module), parameter, nn.Parameter(file.get_tensor(key), requires_grad=False))
    model.tie_weights()
    if (directory / GENERATION_CONFIG).is_file():
        model.generation_config = GenerationConfig.from_pretrained(directory)
    missing = [name for name, tensor in model.named_parameters() if tensor.is_meta]
    if missing:
        raise CorruptModelError(
            f"{directory / WEIGHTS} lacks {missing[0]}.", field="model", remedy="Download the checkpoint again."
        )
    model.is_loaded_in_4bit = not dequantize and 4 in precision.bits
    model.is_loaded_in_8bit = not dequantize and 8 in precision.bits
    return model.to(device).eval()


def encode_uniform(model: PreTrainedModel, family: Family, bits: Sequence[int], double_quant: bool) -> Tensors:
    """Tensors of ``model`` with layer ``i`` quantized to ``bits[i]``, everything else as it is; no adapters."""
    kinds = precisions(double_quant)
    tensors: Tensors = {}
    quantized = set()
    for layer, bit in enumerate(bits):
        for name in linear_names(family, layer):
            encoded = kinds[bit].encode(model.get_submodule(name).weight.data)
            tensors |= {f"{name}.{key}": value for key, value in encoded.items()}
            quantized.add(f"{name}.weight")
    return tensors | other_tensors(model, quantized)


def other_tensors(model: PreTrainedModel, but: set[str]) -> Tensors:
    """The parameters of ``model`` whose names are not in ``but``; tied ones once."""
    return {name: tensor.data for name, tensor in model.named_parameters() if name not in but}

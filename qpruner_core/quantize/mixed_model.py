"""A model whose layers have different precisions: written to and loaded from a directory.

The directory has ``config.json`` (with the bits of each layer under ``quantization_config``) and
safetensors files with the tensors under bitsandbytes' own names.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import torch
from safetensors.torch import save_file
from torch import nn
from transformers import AutoConfig, GenerationConfig, PretrainedConfig, PreTrainedModel
from transformers.pytorch_utils import Conv1D

from qpruner_core.errors import CorruptModelError
from qpruner_core.models.checkpoint import INDEX_FILE, WEIGHT_FILE
from qpruner_core.models.families import Family, find_family, linear_shape, linear_weight
from qpruner_core.models.model_config import check_sizes, refuse_too_many_layers
from qpruner_core.models.reshape import copy_modeling_file, empty_model, without_strange_code
from qpruner_core.models.shards import StoredTensors
from qpruner_core.precisions import Precision, Tensors, precisions
from qpruner_core.strict import StrictModel

CONFIG = "config.json"
GENERATION_CONFIG = "generation_config.json"


class MixedPrecision(StrictModel):
    """``quantization_config`` of a mixed checkpoint."""

    quant_method: str = "qpruner"
    bits: tuple[Literal[4, 8, 16], ...]
    double_quant: bool


def linear_names(model: nn.Module, family: Family, layer: int) -> list[str]:
    """Full module names of the linear modules of ``layer``."""
    name = f"{family.layers}.{layer}"
    return [f"{name}.{path}" for path in family.linear_paths(model.get_submodule(name))]


def write_mixed_model(
    directory: Path, config: PretrainedConfig, precision: MixedPrecision, tensors: Tensors, family: Family
) -> None:
    """Write a mixed checkpoint. ``tensors``: every tensor under its full name; see :mod:`qpruner_core.precisions`."""
    directory.mkdir(parents=True, exist_ok=True)
    without_strange_code(config, family)
    values = json.loads(config.to_json_string())
    values["quantization_config"] = precision.model_dump(mode="json")
    (directory / CONFIG).write_text(json.dumps(values, indent=2, sort_keys=True) + "\n")
    copy_modeling_file(config, family, directory)
    save_file(
        {name: tensor.contiguous() for name, tensor in tensors.items()}, directory / WEIGHT_FILE, {"format": "pt"}
    )


def read_mixed_config(directory: Path) -> tuple[PretrainedConfig, MixedPrecision, Family]:
    """The model's config and the precision of each layer.

    Raises:
        CorruptModelError: no mixed checkpoint is there.
    """
    try:
        values = json.loads((directory / CONFIG).read_text())
        refuse_too_many_layers(values, directory / CONFIG)
        precision = MixedPrecision.model_validate(values.pop("quantization_config"))
        family = find_family(values.pop("model_type"))
        kind = family.pruned_model_type if "per_layer_config" in values else family.model_type
        config = AutoConfig.for_model(kind, **values)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise CorruptModelError(
            f"{directory} holds no mixed-precision checkpoint.",
            field="model",
            remedy='Name the directory that has config.json with a "qpruner" quantization_config.',
        ) from error
    if len(precision.bits) != config.num_hidden_layers:
        raise _corrupt(directory, f"it has {config.num_hidden_layers} layers, but bits for {len(precision.bits)}")
    for layer in config.per_layer_config:
        check_sizes(layer, directory / CONFIG)
    return config, precision, family


def load_mixed_model(
    directory: Path, *, device: str | torch.device = "cpu", dequantize: bool = False
) -> PreTrainedModel:
    """Load a mixed checkpoint onto ``device``, in eval mode.

    With ``dequantize`` every linear module is a plain bfloat16 one (of GPT-2 a ``Conv1D``) with the very weights that
    the quantized module computes with, and inputs rounded as it rounds them: more memory, and on a CPU much less time.

    Raises:
        CorruptModelError: the files are damaged or do not fit each other.
    """
    config, precision, family = read_mixed_config(directory)
    model = empty_model(config)
    kinds = precisions(precision.double_quant)
    if not any((directory / name).is_file() for name in (WEIGHT_FILE, INDEX_FILE)):
        raise _corrupt(directory, f"it has no {WEIGHT_FILE}")
    with StoredTensors(directory, device=device) as stored:
        remaining = stored.names()
        for layer, bits in enumerate(precision.bits):
            for name in linear_names(model, family, layer):
                own = {key for key in remaining if key.startswith(name + ".")}
                tensors = {key.removeprefix(name + "."): stored.get(key) for key in own}
                remaining -= own
                bias = tensors.pop("bias", None)
                wanted = model.get_submodule(name)
                linear = _build(kinds, bits, tensors, bias, dequantize, f"{directory}: {name}")
                if dequantize and isinstance(wanted, Conv1D):
                    linear = _conv1d(linear)
                if linear_shape(linear) != linear_shape(wanted):
                    raise _corrupt(directory, f"{name} is not of the shape that config.json says")
                model.set_submodule(name, linear)
        for key in remaining:
            _set_parameter(model, key, stored.get(key), directory)
    model.tie_weights()
    if (directory / GENERATION_CONFIG).is_file():
        model.generation_config = GenerationConfig.from_pretrained(directory)
    missing = [name for name, tensor in model.named_parameters() if tensor.is_meta]
    if missing:
        raise _corrupt(directory, f"{missing[0]} is missing")
    model.is_loaded_in_4bit = not dequantize and 4 in precision.bits
    model.is_loaded_in_8bit = not dequantize and 8 in precision.bits
    return model.to(device).eval()


def _conv1d(linear: nn.Module) -> Conv1D:
    """GPT-2's own kind of linear module, so that what is made of it is stock GPT-2 again."""
    with torch.device("meta"):
        stock = Conv1D(*linear_shape(linear))
    stock.weight = nn.Parameter(linear_weight(linear).T.contiguous(), requires_grad=False)
    if isinstance(linear.bias, nn.Parameter):
        stock.bias = linear.bias
    stock._forward_pre_hooks.update(linear._forward_pre_hooks)
    return stock


def _build(
    kinds: dict[int, Precision], bits: int, tensors: Tensors, bias: torch.Tensor | None, dequantize: bool, where: str
) -> nn.Module:
    try:
        if not dequantize:
            return kinds[bits].build(tensors, bias)
        linear = kinds[16].build({"weight": kinds[bits].decode(tensors)}, bias)
        linear.register_forward_pre_hook(lambda module, args: (kinds[bits].round_input(args[0]), *args[1:]))
    except (KeyError, AttributeError, AssertionError, TypeError, ValueError, RuntimeError) as error:
        raise CorruptModelError(
            f"{where} cannot be read at {bits} bits ({type(error).__name__}: {error}).",
            field="model",
            remedy="Download the checkpoint again.",
        ) from error
    return linear


def _set_parameter(model: nn.Module, name: str, value: torch.Tensor, directory: Path) -> None:
    module, _, parameter = name.rpartition(".")
    try:
        old = model.get_parameter(name)
    except AttributeError:
        raise _corrupt(directory, f"config.json has no place for {name}") from None
    if old.shape != value.shape:
        raise _corrupt(directory, f"{name} is not of the shape that config.json says")
    setattr(model.get_submodule(module), parameter, nn.Parameter(value, requires_grad=False))


def _corrupt(directory: Path, what: str) -> CorruptModelError:
    return CorruptModelError(
        f"The checkpoint in {directory} is damaged: {what}.", field="model", remedy="Download the checkpoint again."
    )


def encode_uniform(model: PreTrainedModel, family: Family, bits: Sequence[int], double_quant: bool) -> Tensors:
    """Tensors of ``model`` with layer ``i`` quantized to ``bits[i]``, everything else as it is; no adapters."""
    kinds = precisions(double_quant)
    tensors: Tensors = {}
    quantized = set()
    for layer, bit in enumerate(bits):
        for name in linear_names(model, family, layer):
            encoded = kinds[bit].encode(linear_weight(model.get_submodule(name)))
            tensors |= {f"{name}.{key}": value for key, value in encoded.items()}
            quantized.add(f"{name}.weight")
    return tensors | other_tensors(model, quantized)


def other_tensors(model: PreTrainedModel, but: set[str]) -> Tensors:
    """The parameters of ``model`` whose names are not in ``but``; tied ones once."""
    return {name: tensor.data for name, tensor in model.named_parameters() if name not in but}

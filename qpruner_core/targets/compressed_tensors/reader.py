"""Read such a checkpoint back into a torch model that computes the same as the engines."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import PretrainedConfig, PreTrainedModel

from qpruner_core.errors import CorruptModelError
from qpruner_core.models.checkpoint import read_checkpoint
from qpruner_core.models.families import linear_shape
from qpruner_core.models.json_files import read_json_object, require_short_lists
from qpruner_core.models.model_config import (
    CONFIG_FILE,
    LARGEST_CONFIG,
    check_layers,
    refuse_too_many_layers,
    stored_config,
)
from qpruner_core.models.reshape import empty_model
from qpruner_core.models.shards import StoredTensors
from qpruner_core.models.stored_parameters import damaged, set_parameter
from qpruner_core.models.tensor_checks import require_bounded
from qpruner_core.precisions.compressed_tensors import QUANTIZED
from qpruner_core.targets.compressed_tensors.quantization_config import read_precisions

_PARAMETERS_PER_BYTE = 5
"""More than a checkpoint has in 2 bits, without constants."""


def read_config(directory: Path) -> tuple[PretrainedConfig, dict[str, str]]:
    """The model's config without its quantization, and the name of the precision of every quantized module.

    Raises:
        CorruptModelError: the directory has no checkpoint of this format written by QPruner.
    """
    path = directory / CONFIG_FILE
    try:
        values = read_json_object(path, most_bytes=LARGEST_CONFIG)
        require_short_lists({name: value for name, value in values.items() if name != "quantization_config"}, path.name)
        refuse_too_many_layers(values, path)
        quantization: dict[str, Any] | None = values.pop("quantization_config", None)
        precision = {} if quantization is None else read_precisions(quantization)
        config, _ = stored_config(values)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise CorruptModelError(
            f"{directory} is not a compressed-tensors checkpoint of QPruner ({type(error).__name__}: {error}).",
            field="model",
            remedy='Name the directory that has config.json with a "compressed-tensors" quantization_config.',
        ) from error
    check_layers(config, path)
    return config, precision


def read_compressed_tensors(directory: Path, *, device: str | torch.device = "cpu") -> PreTrainedModel:
    """The model on ``device``, in eval mode, with plain bfloat16 linear modules of the engines' effective weights;
    modules in W8A8 precisions round their inputs.

    Raises:
        CorruptModelError: the files are damaged or do not match each other.
    """
    config, precision = read_config(directory)
    require_bounded(config, read_checkpoint(directory).weight_bytes, parameters_per_byte=_PARAMETERS_PER_BYTE)
    model = empty_model(config)
    with StoredTensors(directory, device=device) as stored:
        remaining = stored.names()
        for name, kind in precision.items():
            own = {key for key in remaining if key.startswith(f"{name}.")}
            remaining -= own
            module = _built(model, name, kind, {key: stored.get(key) for key in own}, directory)
            model.set_submodule(name, module)
        for key in remaining:
            set_parameter(model, key, stored.get(key), directory)
    model.tie_weights()
    if missing := [name for name, tensor in model.named_parameters() if tensor.is_meta]:
        raise damaged(directory, f"{missing[0]} is missing")
    return model.to(device).eval()


def _built(
    model: PreTrainedModel, name: str, kind: str, tensors: dict[str, torch.Tensor], directory: Path
) -> nn.Module:
    weights = {key.removeprefix(f"{name}."): tensor for key, tensor in tensors.items()}
    bias = weights.pop("bias", None)
    try:
        wanted = model.get_submodule(name)
        built = QUANTIZED[kind].build(weights, bias)
        fits = linear_shape(built) == linear_shape(wanted) and (bias is None) == (wanted.bias is None)
    except (KeyError, AttributeError, ValueError, TypeError, RuntimeError) as error:
        raise damaged(directory, f"{name} cannot be read as {kind} ({type(error).__name__}: {error})") from error
    if not fits:
        raise damaged(directory, f"{name} does not have the shape of config.json")
    return built

"""A GGUF file as a torch model that computes the same as llama.cpp."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from transformers import PretrainedConfig, PreTrainedModel

from qpruner_core.models.families import LayerWidths, find_family
from qpruner_core.models.gguf.architectures import DECI, Architecture
from qpruner_core.models.gguf.convert import declared_model
from qpruner_core.models.gguf.header import corrupt
from qpruner_core.models.gguf.keys import ARCHITECTURE, ArchitectureKeys
from qpruner_core.models.gguf.split import GgufModel, read_model
from qpruner_core.models.gguf.tensors import account_for_tensors, read_parameter
from qpruner_core.models.model_config import expected_tensors
from qpruner_core.models.reshape import config_with_shape, empty_model
from qpruner_core.targets.gguf.plan import layer_config
from qpruner_core.targets.gguf.writer import FAMILY_KEY

_DECI = "deci"
_BY_LAYER = ("attention.head_count", "attention.head_count_kv", "feed_forward_length")


def read_gguf(path: Path, *, dtype: torch.dtype = torch.bfloat16) -> PreTrainedModel:
    """The model of ``path`` with its weights unpacked to ``dtype``, in eval mode.

    Of the stock class of its architecture, or of ours if layers differ or have biases at their ends. A Mistral is read
    as a Llama, as in llama.cpp.

    Raises:
        CorruptModelError, UnsupportedArchitectureError: as :func:`qpruner_core.models.gguf.read_gguf_config`.
    """
    model = read_model(path)
    declared, config = described_model(model)
    account_for_tensors(model, declared, expected_tensors(config))
    found = empty_model(config, dtype)
    for name, _ in list(found.named_parameters()):
        own = layer_config(config, declared, name)
        tensor = read_parameter(name, model.tensors, declared, own, dtype)
        module, _, last = name.rpartition(".")
        setattr(found.get_submodule(module), last, torch.nn.Parameter(tensor, requires_grad=False))
    found.tie_weights()
    return found.eval()


def described_model(model: GgufModel) -> tuple[Architecture, PretrainedConfig]:
    """The declaration of the tensors of the file of ``model``, and its config."""
    shape = None
    declared = None
    if model.metadata.get(ARCHITECTURE) == _DECI:
        shape = _widths(model)
        kind = str(model.metadata.get(FAMILY_KEY, "llama"))
        declared = DECI.get("llama" if kind == "mistral" else kind)
        if declared is None:
            raise corrupt(model.path, f"{FAMILY_KEY} is {kind!r}")
        model = _as_uniform(model, declared.model_type)
    stock, config = declared_model(model)
    declared = declared or stock
    family = find_family(config.model_type)
    expected = expected_tensors(config)
    ends = (family.attention_output, family.down)
    biases = [f"{family.layers}.0.{path}.bias" for path in ends]
    missing = [name for name in biases if name not in expected]
    output_bias = bool(missing) and all(declared.stored_names(name)[0] in model.tensors for name in missing)
    if shape is None and not output_bias:
        return declared, config
    return declared, config_with_shape(config, family, shape or family.widths(config), output_bias=output_bias)


def _widths(model: GgufModel) -> list[LayerWidths]:
    """The widths of every layer of a ``deci`` model."""
    keys = ArchitectureKeys(model)
    layers = keys.integer("block_count")
    heads, groups, channels = (_each(keys, name, layers, model) for name in _BY_LAYER)
    return [
        LayerWidths(num_attention_heads=head, num_key_value_heads=group, intermediate_size=channel)
        for head, group, channel in zip(heads, groups, channels, strict=True)
    ]


def _each(keys: ArchitectureKeys, name: str, layers: int, model: GgufModel) -> list[int]:
    found = keys.each_layer(name)
    values = [found] * layers if isinstance(found, int) else found or []
    if len(values) != layers or not all(type(value) is int and value > 0 for value in values):
        raise corrupt(model.path, f"{_DECI}.{name} is {values}, which are not the widths of {layers} layers")
    return [int(value) for value in values]


def _as_uniform(model: GgufModel, model_type: str) -> GgufModel:
    """The same file as one of the architecture that ``deci`` stands for, with all layers like the first."""
    metadata: dict[str, Any] = {}
    for key, value in model.metadata.items():
        name = key.removeprefix(f"{_DECI}.")
        first = value[0] if name in _BY_LAYER and isinstance(value, list) else value
        metadata[f"{model_type}.{name}" if name != key else key] = first
    return replace(model, metadata={**metadata, ARCHITECTURE: model_type})

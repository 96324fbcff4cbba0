"""Removing the least important units of a model: slicing coupled weights together."""

from __future__ import annotations

from typing import cast

import torch
from torch import nn
from transformers import PreTrainedModel

from qpruner_core.models.families import Family, LayerWidths
from qpruner_core.models.reshape import config_with_widths, empty_model
from qpruner_core.prune.importance import LayerImportance


def prune_model(
    model: PreTrainedModel, family: Family, widths: list[LayerWidths], importance: list[LayerImportance]
) -> PreTrainedModel:
    """A new model of ``widths`` with the most important units of ``model``, in their old order.

    Removing a unit is the same as setting its weights to zero: the output is that of the dense model with the
    removed units zeroed. ``model`` must be dense; its unsliced tensors are shared with the result.
    """
    pruned = empty_model(config_with_widths(model.config, family, widths), dtype=model.dtype)
    tensors = dict(model.named_parameters())
    for index, (layer, width) in enumerate(zip(family.decoder_layers(model), widths, strict=True)):
        for path, parameter, tensor in _slices(family, layer, width, importance[index], family.head_dim(model.config)):
            tensors[f"{family.layers}.{index}.{path}.{parameter}"] = tensor
    for name, _ in list(pruned.named_parameters()):
        module, _, parameter = name.rpartition(".")
        value = nn.Parameter(tensors[name].detach(), requires_grad=False)
        setattr(pruned.get_submodule(module), parameter, value)
    pruned.tie_weights()
    pruned.generation_config = model.generation_config
    return pruned.eval()


def kept_units(width: LayerWidths, importance: LayerImportance) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Indices of the kept channels, query heads and key-value heads, each ascending.

    If fewer key-value heads are wanted, whole groups go; otherwise every group loses as many query heads.
    """
    channels = _top(importance.channels, width.intermediate_size)
    groups = importance.key_value_heads.numel()
    per_group = importance.query_heads.numel() // groups
    key_values = _top(importance.kv_groups(), width.num_key_value_heads)
    kept_per_group = width.num_attention_heads // width.num_key_value_heads
    by_group = importance.query_heads.view(groups, per_group)
    heads = torch.cat([group * per_group + _top(by_group[group], kept_per_group) for group in key_values])
    return channels, heads, key_values


def _top(scores: torch.Tensor, count: int) -> torch.Tensor:
    # A stable sort, so that equal scores always keep the same unit
    return torch.sort(scores, descending=True, stable=True).indices[:count].sort().values


def _slices(
    family: Family, layer: nn.Module, width: LayerWidths, importance: LayerImportance, head_dim: int
) -> list[tuple[str, str, torch.Tensor]]:
    channels, heads, key_values = kept_units(width, importance)
    queries, keys = _rows(heads, head_dim), _rows(key_values, head_dim)
    kept_rows = {
        family.query: queries,
        family.key: keys,
        family.value: keys,
        family.gate: channels,
        family.up: channels,
    }
    kept_columns = {family.attention_output: queries, family.down: channels}
    slices = []
    for path, rows in kept_rows.items():
        linear = layer.get_submodule(path)
        slices += [(path, name, tensor.data[rows.to(tensor.device)]) for name, tensor in linear.named_parameters()]
    for path, columns in kept_columns.items():
        weight = cast(torch.Tensor, layer.get_submodule(path).weight)
        slices.append((path, "weight", weight.data[:, columns.to(weight.device)]))
    return slices


def _rows(heads: torch.Tensor, head_dim: int) -> torch.Tensor:
    return (heads.unsqueeze(1) * head_dim + torch.arange(head_dim)).flatten()

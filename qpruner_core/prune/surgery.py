"""Remove the least important units of a model by slicing coupled weights together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import nn
from transformers import PreTrainedModel

from qpruner_core.models.families import Family, LayerWidths, Unit, positions
from qpruner_core.models.reshape import Shape, config_with_shape, empty_model
from qpruner_core.prune.importance import LayerImportance, kv_groups
from qpruner_core.resources import return_freed_memory

Kept = dict[Unit, torch.Tensor]
"""Indices of the kept units of a layer, int64, ascending, per kind."""


def prune_model(
    model: PreTrainedModel,
    family: Family,
    shape: Shape,
    importance: Sequence[LayerImportance],
    *,
    replacements: Mapping[str, torch.Tensor] | None = None,
    output_bias: bool = False,
    consume: bool = False,
) -> PreTrainedModel:
    """A new model of ``shape`` with the most important units of ``model`` (dense or pruned), in their old order.

    Removing a unit is equivalent to setting its weights to zero: the output equals that of ``model`` with the removed
    units zeroed. Uncut tensors are shared with the result. ``replacements``: parameters of the new model with other
    values, or missing from ``model``, under their new names. ``output_bias``: the new model has biases at the end of
    attention and MLP, from its replacements. ``consume``: free each layer of ``model`` once it is cut, so that memory
    holds one copy and a layer instead of two copies; ``model`` is unusable afterwards.
    """
    pruned = empty_model(config_with_shape(model.config, family, shape, output_bias=output_bias), dtype=model.dtype)
    tensors: dict[str, torch.Tensor] = {
        name: tensor.data for name, tensor in model.named_parameters() if not name.startswith(f"{family.layers}.")
    }
    tensors |= _kept_layers(model, family, shape, importance, consume=consume)
    tensors |= replacements or {}
    for name, _ in list(pruned.named_parameters()):
        module, _, parameter = name.rpartition(".")
        setattr(pruned.get_submodule(module), parameter, nn.Parameter(tensors[name], requires_grad=False))
    pruned.tie_weights()
    pruned.generation_config = model.generation_config
    return pruned.eval()


def _kept_layers(
    model: PreTrainedModel, family: Family, shape: Shape, importance: Sequence[LayerImportance], *, consume: bool
) -> dict[str, torch.Tensor]:
    """Sliced parameters of the remaining layers, under their new names."""
    tensors: dict[str, torch.Tensor] = {}
    head_dim = family.head_dim(model.config)
    position = 0
    layers = zip(family.decoder_layers(model), family.widths(model.config), shape, importance, strict=True)
    for layer, old, widths, scores in layers:
        if widths is not None:
            kept = _kept_layer(layer, family, old, widths, scores, head_dim)
            tensors |= {f"{family.layers}.{position}.{name}": tensor for name, tensor in kept.items()}
            position += 1
        if consume:
            for tensor in layer.parameters():
                tensor.data = tensor.data.new_empty(0)
            return_freed_memory()
    return tensors


def _kept_layer(
    layer: nn.Module, family: Family, old: LayerWidths, new: LayerWidths, importance: LayerImportance, head_dim: int
) -> dict[str, torch.Tensor]:
    parameters = {name: tensor.data for name, tensor in layer.named_parameters()}
    kept = kept_units(old, new, importance)
    for cut in family.cuts(layer):
        entries = kept_entries(positions(cut.axis, old, head_dim), kept).to(cut.tensor.device)
        whole = parameters[cut.parameter]
        if len(entries) < whole.shape[cut.dim]:
            parameters[cut.parameter] = whole.index_select(cut.dim, entries)
    return parameters


def kept_units(old: LayerWidths, new: LayerWidths, importance: LayerImportance) -> Kept:
    """The units that a layer keeps when its widths change from ``old`` to ``new``.

    With fewer key-value heads, whole groups are removed; otherwise every group loses equally many query heads.
    """
    kept: Kept = {}
    for unit in (Unit.CHANNEL, Unit.EXPERT):
        if unit in importance:
            kept[unit] = _top(importance[unit], new.count(unit))
    if Unit.QUERY_HEAD in importance:
        per_group = old.num_attention_heads // old.num_key_value_heads
        kept_per_group = new.num_attention_heads // new.num_key_value_heads
        by_group = importance[Unit.QUERY_HEAD].view(-1, per_group)
        groups = _top(kv_groups(importance), new.num_key_value_heads)
        kept[Unit.KEY_VALUE_HEAD] = groups
        kept[Unit.QUERY_HEAD] = torch.cat(
            [group * per_group + _top(by_group[group], kept_per_group) for group in groups]
        )
    return kept


def kept_entries(places: Mapping[Unit, torch.Tensor], kept: Kept) -> torch.Tensor:
    """Remaining entries of a dimension, ascending: those of the kept units at their ``places`` along it."""
    return torch.cat([places[unit][kept[unit]].flatten() for unit in places]).sort().values


def _top(scores: torch.Tensor, count: int) -> torch.Tensor:
    # A stable sort, so that equal scores always keep the same unit
    return torch.sort(scores, descending=True, stable=True).indices[:count].sort().values

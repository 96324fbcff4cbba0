"""What a pruned model is compared with: the whole model, in which what was removed counts for nothing."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel

from qpruner_core.models.families import Family, LayerWidths, Unit
from qpruner_core.models.reshape import Shape
from qpruner_core.prune.importance import LayerImportance
from qpruner_core.prune.surgery import kept_units
from tests.core.prune.units import zero_removed_units


def zeroed_model(
    model: PreTrainedModel, family: Family, shape: Shape, importance: list[LayerImportance]
) -> PreTrainedModel:
    """A copy of ``model`` with its whole shape: removed units are zero, removed layers pass their input on."""
    zeroed = copy.deepcopy(model)
    dense = family.widths(model.config)
    widths = [old if new is None else new for old, new in zip(dense, shape, strict=True)]
    zero_removed_units(zeroed, family, list(widths), importance)
    for index, layer in enumerate(family.decoder_layers(zeroed)):
        if shape[index] is None:
            layer.register_forward_hook(_pass_input_on)
            continue
        _let_norms_ignore_zeros(layer, family, dense[index], widths[index])
        if dense[index].num_experts:
            kept = kept_units(dense[index], widths[index], importance[index])
            _route_only_to(layer, kept[Unit.EXPERT])
    return zeroed


def with_norms_in_float64(model: PreTrainedModel, family: Family) -> PreTrainedModel:
    """``model``, whose norms over all heads, if it has any, no longer round to float32 within; in place."""
    for layer in family.decoder_layers(model):
        for path in _norms_over_heads(family):
            stock = layer.get_submodule(path)
            exact = nn.RMSNorm(len(stock.weight), eps=stock.variance_epsilon, dtype=torch.float64)
            exact.weight = stock.weight
            layer.set_submodule(path, exact)
    return model


def _pass_input_on(layer: nn.Module, args: tuple[torch.Tensor, ...], output: Any) -> Any:
    return (args[0], *output[1:]) if isinstance(output, tuple) else args[0]


def _norms_over_heads(family: Family) -> dict[str, str]:
    return {
        path.removesuffix(".weight"): axis for path, axis in family.parameters.items() if axis in ("query", "key_value")
    }


def _let_norms_ignore_zeros(layer: nn.Module, family: Family, old: LayerWidths, new: LayerWidths) -> None:
    """Make norms over n heads of which n - k are zero give the others what a norm over those k heads would.

    x·w / sqrt(S/k + e) = x·w·sqrt(k/n) / sqrt(S/n + e·k/n), S being the sum of squares over the k heads.
    """
    remaining = {
        "query": new.num_attention_heads / old.num_attention_heads,
        "key_value": new.num_key_value_heads / old.num_key_value_heads,
    }
    for path, axis in _norms_over_heads(family).items():
        norm = layer.get_submodule(path)
        norm.weight.data *= remaining[axis] ** 0.5
        norm.variance_epsilon *= remaining[axis]


def _route_only_to(layer: nn.Module, experts: torch.Tensor) -> None:
    """Let the router choose among ``experts`` only: an expert of zeros would still take its share of the weights."""
    router = layer.get_submodule("mlp.gate")
    router.weight = nn.Parameter(router.weight[experts])
    router.register_forward_hook(lambda module, args, output: (*output[:2], experts[output[2]]))

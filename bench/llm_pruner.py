"""LLM-Pruner's recipe (Ma et al., arXiv 2305.11627, and its repository's README), on grouped-query attention.

- Importance: ``|w·g|``, g being the gradient of the mean loss over one batch of ten sequences of 64 tokens of novels,
  summed over all weights of a unit (its options ``taylor: param_first``, ``grouping_strategy: sum``).
- Layers 4 to 29 of 32 lose the same ratio, attention and MLP alike; here the same share of the model's layers.
- No width is rounded. LLaMA-7B has 32 heads to choose from; where a layer has only a few key-value groups, its share
  is no whole number of them. Either layers take turns, so that attention as a whole loses its share, or each layer
  rounds down, as the original's code does, and the MLP makes up the rest. Both are compared.
"""

from __future__ import annotations

import torch
from transformers import PreTrainedModel

from qpruner_core.models.families import Family
from qpruner_core.models.reshape import Shape
from qpruner_core.prune.config import PruneConfig
from qpruner_core.prune.importance import LayerImportance, sum_units
from qpruner_core.prune.layer_sizes import LayerSizes
from qpruner_core.prune.layouts import plan_shape
from qpruner_core.prune.layouts.layout import prunable_layers

SEQUENCES = 10
LENGTH = 64
_LAYERS, _FIRST, _LAST = 32, 4, 2
"""Layers of its LLaMA-7B, and how many of them at either end it leaves alone."""


def llm_pruner_importance(model: PreTrainedModel, family: Family, batch: torch.Tensor) -> list[LayerImportance]:
    """Importance of every unit of ``model`` on ``batch [sequences, length]``, int64; all gradients exist at once."""
    model.requires_grad_(True)
    try:
        ids = batch.to(model.device)
        model(input_ids=ids, labels=ids, use_cache=False).loss.backward()
        return _sums(model, family)
    finally:
        model.requires_grad_(False)
        model.zero_grad(set_to_none=True)


def _sums(model: PreTrainedModel, family: Family) -> list[LayerImportance]:
    found: list[LayerImportance] = []
    head_dim = family.head_dim(model.config)
    for layer, widths in zip(family.decoder_layers(model), family.widths(model.config), strict=True):
        scores: LayerImportance = {}
        for cut in family.cuts(layer):
            assert cut.tensor.grad is not None
            salience = (cut.tensor.detach().float() * cut.tensor.grad.float()).abs()
            others = [dim for dim in range(salience.dim()) if dim != cut.dim]
            sum_units(cut, salience.sum(dim=others) if others else salience, widths, head_dim, scores)
        found.append(scores)
    return found


def llm_pruner_settings(layers: int) -> PruneConfig:
    """Its layout for a model of so many ``layers``, in our terms."""
    return PruneConfig(
        criterion="taylor_first",
        layout="same_ratio",
        attention_unit="kv_group",
        protect_first=round(layers * _FIRST / _LAYERS),
        protect_last=round(layers * _LAST / _LAYERS),
        width_multiple=1,
        compensation="none",
    )


def rounded_down_shape(sizes: LayerSizes, settings: PruneConfig, ratio: float) -> Shape:
    """The shape at ``ratio`` with key-value groups rounded down in each layer; the MLPs make up the rest."""
    layers = prunable_layers(sizes, settings)
    share = sizes.parameters_to_remove(ratio) / sum(sizes.layer_parameters[layer] for layer in layers)
    without_groups = list(sizes.widths)
    for layer in layers:
        now = sizes.widths[layer]
        groups = now.num_key_value_heads - int(share * now.num_key_value_heads)
        heads = now.num_attention_heads // now.num_key_value_heads * groups
        without_groups[layer] = now.model_copy(update={"num_key_value_heads": groups, "num_attention_heads": heads})
    mlp_only = settings.model_copy(update={"attention_unit": "none"})
    return plan_shape(sizes.after(without_groups), mlp_only, ratio)

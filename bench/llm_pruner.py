"""LLM-Pruner's recipe (Ma et al., arXiv 2305.11627, and its repository's README), on grouped-query attention.

- Importance: ``|w·g|``, g being the gradient of the mean loss over one batch of ten sequences of 64 tokens of novels,
  summed over all weights of a unit (its options ``taylor: param_first``, ``grouping_strategy: sum``).
- Layers 4 to 29 of 32 lose the same ratio, attention and MLP alike; here the same share of the model's layers.
- No width is rounded. Where a layer has too few key-value groups for the ratio, which the original has not to deal
  with, its layers take turns, so that attention as a whole loses its share.
"""

from __future__ import annotations

import torch
from transformers import PreTrainedModel

from qpruner_core.models.families import Family
from qpruner_core.prune.config import PruneConfig
from qpruner_core.prune.importance import LayerImportance, sum_units

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


def llm_pruner_settings(layers: int, *, attention: bool = True) -> PruneConfig:
    """Its layout for a model of so many ``layers``, in our terms; ``attention=False``: only the MLP is pruned."""
    return PruneConfig(
        criterion="taylor_first",
        layout="same_ratio",
        attention_unit="kv_group" if attention else "none",
        protect_first=round(layers * _FIRST / _LAYERS),
        protect_last=round(layers * _LAST / _LAYERS),
        width_multiple=1,
        compensation="none",
    )

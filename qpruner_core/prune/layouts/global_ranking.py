"""Adaptive widths: the least important units of all unprotected layers are removed, wherever they are."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch

from qpruner_core.models.families import Unit
from qpruner_core.models.reshape import Shape
from qpruner_core.prune.config import PruneConfig
from qpruner_core.prune.importance import LayerImportance
from qpruner_core.prune.layer_sizes import LayerSizes
from qpruner_core.prune.layouts.ladder import Ladder, attention_ladder, mlp_ladder, with_rungs
from qpruner_core.prune.layouts.layout import prunable_layers, refuse_ratio
from qpruner_core.prune.layouts.same_ratio import same_ratio
from qpruner_core.prune.normalize import Normalization, normalize


def global_ranking(
    layer_sizes: LayerSizes,
    settings: PruneConfig,
    ratio: float,
    importance: Sequence[LayerImportance] | None,
    influence: Sequence[float] | None,
) -> Shape:
    """See :class:`qpruner_core.prune.layouts.layout.Layout`; needs the importance.

    Units are removed in the order of importance per parameter: key-value groups (or a query head of every group),
    experts, and channels in sets of ``width_multiple``, those of a layer in ascending order. No layer loses its last
    group, its last set of channels, or the experts needed per token.
    """
    shape: Shape = list(layer_sizes.widths)
    amount = layer_sizes.parameters_to_remove(ratio)
    if importance is None or amount <= 0:
        return same_ratio(layer_sizes, settings, ratio, importance, influence)
    removals = sorted(_removals(layer_sizes, settings, importance), key=lambda removal: removal.density)
    rungs: dict[tuple[int, bool], dict[str, int]] = {}
    for removal in removals:
        if abs(amount - removal.parameters) >= abs(amount):
            break
        amount -= removal.parameters
        rungs[removal.layer, removal.of_attention] = removal.widths
    if amount > max((removal.parameters for removal in removals), default=0):
        raise refuse_ratio(layer_sizes, settings, ratio, sum(removal.parameters for removal in removals))
    for (layer, _), widths in rungs.items():
        now = shape[layer]
        assert now is not None
        shape[layer] = with_rungs(now, widths)
    return shape


@dataclass(frozen=True)
class _Removal:
    """The next removable group of a part of a layer, its importance per parameter, and the remaining widths."""

    density: float
    layer: int
    of_attention: bool
    parameters: int
    widths: dict[str, int]


def normalization_of(criterion: str) -> Normalization:
    """The scale on which ``criterion`` is comparable between layers.

    Taylor criteria estimate the same quantity everywhere, the change of the loss. Weights and activations differ in
    scale from layer to layer, so they are standardised, as in FLAP (arXiv 2312.11983).
    """
    return "none" if criterion.startswith("taylor") else "standardize"


def _removals(
    layer_sizes: LayerSizes, settings: PruneConfig, importance: Sequence[LayerImportance]
) -> Iterator[_Removal]:
    """Every removable group; those of one part of a layer in their fixed order."""
    how = normalization_of(settings.criterion)
    scores = {unit: normalize(importance, unit, how) for unit in Unit}
    for layer in prunable_layers(layer_sizes, settings):
        sizes = layer_sizes.unit_parameters[layer]
        attention = scores[Unit.KEY_VALUE_HEAD][layer]
        if settings.attention_unit == "query_head":
            heads = scores[Unit.QUERY_HEAD][layer].view(layer_sizes.widths[layer].num_key_value_heads, -1)
            attention = heads.sort(dim=1).values.sum(dim=0)
        mlp = scores[Unit.EXPERT if Unit.EXPERT in sizes else Unit.CHANNEL][layer]
        yield from _of_ladder(layer, True, attention_ladder(layer_sizes, layer, settings), attention.sort().values, how)
        yield from _of_ladder(layer, False, mlp_ladder(layer_sizes, layer, settings), mlp.sort().values, how)


def _of_ladder(
    layer: int, of_attention: bool, ladder: Ladder, ascending: torch.Tensor, how: Normalization
) -> Iterator[_Removal]:
    """One removal per rung; ``ascending``: importance of the units of this part, the first to remove first."""
    density = -math.inf
    for rung in range(1, len(ladder.widths)):
        parameters = ladder.removed[rung] - ladder.removed[rung - 1]
        gone = ascending[ladder.units[rung - 1] : ladder.units[rung]]
        found = float(gone.sum()) / parameters if how == "none" else float(gone.mean())
        density = max(density, found)  # rounding must not let a later group go before an earlier one
        yield _Removal(density, layer, of_attention, parameters, ladder.widths[rung])

"""The same ratio in every unprotected layer, as in LLM-Pruner (arXiv 2305.11627)."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from qpruner_core.models.families import Unit
from qpruner_core.models.reshape import Shape
from qpruner_core.prune.config import PruneConfig
from qpruner_core.prune.importance import LayerImportance
from qpruner_core.prune.layer_sizes import LayerSizes
from qpruner_core.prune.layouts.ladder import Ladder, attention_ladder, mlp_ladder, with_rungs
from qpruner_core.prune.layouts.layout import prunable_layers, refuse_ratio

_Part = tuple[int, int]
"""(layer, 0 for its attention or 1 for its MLP)"""


def same_ratio(
    layer_sizes: LayerSizes,
    settings: PruneConfig,
    ratio: float,
    importance: Sequence[LayerImportance] | None,
    influence: Sequence[float] | None,
) -> Shape:
    """See :class:`qpruner_core.prune.layouts.layout.Layout`; needs neither importance nor influence.

    Attention and MLP each lose the same share. The rounding error of one layer is carried to the next, so that all of
    them together meet the ratio to within one group.
    """
    shape: Shape = list(layer_sizes.widths)
    amount = layer_sizes.parameters_to_remove(ratio)
    if amount <= 0:
        return shape
    layers = prunable_layers(layer_sizes, settings)
    ladders = {
        (layer, part): make(layer_sizes, layer, settings)
        for layer in layers
        for part, make in enumerate((attention_ladder, mlp_ladder))
    }
    rungs = _diffused(
        layer_sizes, layers, ladders, amount / sum(layer_sizes.layer_parameters[layer] for layer in layers)
    )
    _make_up(layer_sizes, ladders, rungs, amount)
    missing = amount - sum(ladders[part].removed[rung] for part, rung in rungs.items())
    groups = [above - below for ladder in ladders.values() for below, above in pairwise(ladder.removed)]
    if missing > max(groups, default=0):
        raise refuse_ratio(layer_sizes, settings, ratio, sum(ladder.removed[-1] for ladder in ladders.values()))
    for layer in layers:
        shape[layer] = with_rungs(
            layer_sizes.widths[layer], *(ladders[layer, part].widths[rungs[layer, part]] for part in (0, 1))
        )
    return shape


def _diffused(
    layer_sizes: LayerSizes, layers: list[int], ladders: dict[_Part, Ladder], share: float
) -> dict[_Part, int]:
    """A rung for each part, so that up to each layer about ``share`` of all layers so far is removed."""
    rungs: dict[_Part, int] = {}
    due = attention_due = 0.0
    for layer in layers:
        attention, mlp = ladders[layer, 0], ladders[layer, 1]
        due += share * layer_sizes.layer_parameters[layer]
        attention_due += share * _attention_parameters(layer_sizes, layer)
        rungs[layer, 0] = attention.nearest(attention_due)
        attention_due -= attention.removed[rungs[layer, 0]]
        due -= attention.removed[rungs[layer, 0]]
        rungs[layer, 1] = mlp.nearest(due)
        due -= mlp.removed[rungs[layer, 1]]
    return rungs


def _attention_parameters(layer_sizes: LayerSizes, layer: int) -> int:
    sizes, widths = layer_sizes.unit_parameters[layer], layer_sizes.widths[layer]
    return sum(widths.count(unit) * sizes.get(unit, 0) for unit in (Unit.QUERY_HEAD, Unit.KEY_VALUE_HEAD))


def _make_up(layer_sizes: LayerSizes, ladders: dict[_Part, Ladder], rungs: dict[_Part, int], amount: float) -> None:
    """If parts ended at their narrowest, take the rest from the MLPs that lost the least, then from attention."""
    missing = amount - sum(ladders[part].removed[rung] for part, rung in rungs.items())
    while True:
        costs = {
            part: ladder.removed[rungs[part] + 1] - ladder.removed[rungs[part]]
            for part, ladder in ladders.items()
            if rungs[part] + 1 < len(ladder.removed)
        }
        fitting = [part for part, cost in costs.items() if abs(missing - cost) < abs(missing)]
        if not fitting:
            return
        lost = {part: ladders[part].removed[rungs[part]] / layer_sizes.layer_parameters[part[0]] for part in fitting}
        part = min(fitting, key=lambda part: (-part[1], lost[part], part[0]))
        missing -= costs[part]
        rungs[part] += 1

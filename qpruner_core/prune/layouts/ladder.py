"""Possible widths of one part of a layer, from the present one down to the narrowest."""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass

from qpruner_core.models.families import LayerWidths, Unit
from qpruner_core.prune.config import PruneConfig
from qpruner_core.prune.layer_sizes import LayerSizes


@dataclass(frozen=True)
class Ladder:
    """A part of a layer (its attention or its MLP), rung by rung.

    ``widths``: fields of :class:`LayerWidths` on each rung; the first is the present width. ``removed``: parameters
    removed on each rung, ascending from 0. ``units``: key-value groups, query heads of every group, experts or channels
    removed on each rung.
    """

    widths: list[dict[str, int]]
    removed: list[int]
    units: list[int]

    def nearest(self, parameters: float) -> int:
        """The rung that removes the number nearest to ``parameters``; the wider one in a tie."""
        above = bisect_left(self.removed, parameters)
        rungs = [rung for rung in (above - 1, above) if 0 <= rung < len(self.removed)]
        return min(rungs, key=lambda rung: abs(self.removed[rung] - parameters))


def attention_ladder(layer_sizes: LayerSizes, layer: int, settings: PruneConfig) -> Ladder:
    """Ladder of the attention of ``layer``: fewer key-value groups, or fewer query heads in each of them."""
    now = layer_sizes.widths[layer]
    groups, per_group = now.num_key_value_heads, now.num_attention_heads // now.num_key_value_heads
    kinds = [(groups, per_group)]
    if Unit.QUERY_HEAD in layer_sizes.unit_parameters[layer]:
        if settings.attention_unit == "kv_group":
            kinds = [(kept, per_group) for kept in range(groups, 0, -1)]
        elif settings.attention_unit == "query_head":
            kinds = [(groups, kept) for kept in range(per_group, 0, -1)]
    widths = [{"num_attention_heads": kept * each, "num_key_value_heads": kept} for kept, each in kinds]
    left = [layer_sizes.parameters_of(layer, with_rungs(now, rung)) for rung in widths]
    removed = [layer_sizes.layer_parameters[layer] - parameters for parameters in left]
    return Ladder(widths, removed, list(range(len(widths))))


def mlp_ladder(layer_sizes: LayerSizes, layer: int, settings: PruneConfig) -> Ladder:
    """Ladder of the MLP of ``layer``: fewer experts, or channels in multiples of ``width_multiple``."""
    now, sizes = layer_sizes.widths[layer], layer_sizes.unit_parameters[layer]
    field, counts, of_each = "intermediate_size", [now.intermediate_size], sizes.get(Unit.CHANNEL, 0)
    if Unit.EXPERT in sizes:
        fewest = min(layer_sizes.fewest_experts, now.num_experts)
        field, counts, of_each = "num_experts", list(range(now.num_experts, fewest - 1, -1)), sizes[Unit.EXPERT]
    elif Unit.CHANNEL in sizes:
        multiple = settings.width_multiple
        counts += range((now.intermediate_size - 1) // multiple * multiple, 0, -multiple)
    units = [counts[0] - count for count in counts]
    return Ladder([{field: count} for count in counts], [count * of_each for count in units], units)


def with_rungs(now: LayerWidths, *rungs: dict[str, int]) -> LayerWidths:
    """The widths of a layer on these rungs of its ladders."""
    return now.model_copy(update={name: size for rung in rungs for name, size in rung.items()})

"""Layouts, one file each: how removal is spread over the model."""

from __future__ import annotations

from collections.abc import Sequence

from qpruner_core.errors import InvalidConfigError
from qpruner_core.models.reshape import Shape
from qpruner_core.prune.config import LayoutName, PruneConfig
from qpruner_core.prune.importance import LayerImportance
from qpruner_core.prune.layer_sizes import LayerSizes
from qpruner_core.prune.layouts.depth import depth, remove_layers
from qpruner_core.prune.layouts.global_ranking import global_ranking
from qpruner_core.prune.layouts.layout import Layout, one_of, ways_to_prune_more
from qpruner_core.prune.layouts.same_ratio import same_ratio
from qpruner_core.prune.layouts.stock import stock

__all__ = [
    "LAYOUTS", "Layout", "layers_to_remove", "one_of", "plan_shape", "refuse_conflicts", "remove_layers",
    "ways_to_prune_more",
]  # fmt: skip

LAYOUTS: dict[LayoutName, Layout] = {
    "same_ratio": same_ratio,
    "global": global_ranking,
    "stock": stock,
    "depth": depth,
}


def plan_shape(
    layer_sizes: LayerSizes,
    settings: PruneConfig,
    ratio: float,
    importance: Sequence[LayerImportance] | None = None,
    influence: Sequence[float] | None = None,
) -> Shape:
    """The shape of ``layer_sizes`` at ``ratio``: whole layers first if ``remove_layers`` is set, then by the layout.

    The arguments and errors are those of :class:`Layout`; layers already removed count.
    """
    refuse_conflicts(settings)
    count = layers_to_remove(layer_sizes, settings)
    if count == 0:
        return LAYOUTS[settings.layout](layer_sizes, settings, ratio, importance, influence)
    without = remove_layers(layer_sizes, settings, count, influence)
    kept = [layer for layer, widths in enumerate(without) if widths is not None]
    left = layer_sizes.after(without)
    if left.removed_fraction() > ratio and left.parameters_to_remove(ratio) < -max(left.layer_parameters) / 2:
        raise InvalidConfigError(
            f"Removing {count} layers removes {left.removed_fraction():.1%}, more than the ratio of {ratio:.1%}.",
            field="prune.remove_layers",
            remedy="Remove fewer layers, or choose a larger prune.ratio.",
        )
    still = None if importance is None else [importance[layer] for layer in kept]
    influences = None if influence is None else [influence[layer] for layer in kept]
    shape: Shape = [None] * len(without)
    for layer, widths in zip(kept, LAYOUTS[settings.layout](left, settings, ratio, still, influences), strict=True):
        shape[layer] = widths
    return shape


def layers_to_remove(layer_sizes: LayerSizes, settings: PruneConfig) -> int:
    """Number of whole layers to remove before any width."""
    return max(settings.remove_layers - (layer_sizes.first_layers - len(layer_sizes.widths)), 0)


def refuse_conflicts(settings: PruneConfig) -> None:
    """Reject contradictory settings.

    Raises:
        InvalidConfigError: with the invalid setting.
    """
    if settings.layout == "depth" and settings.remove_layers:
        raise InvalidConfigError(
            "The layout depth removes as many whole layers as the ratio requires.",
            field="prune.remove_layers",
            remedy='Leave it at 0, or choose another layout than "depth".',
        )
    if settings.layout in ("stock", "depth") and settings.compensation == "bias":
        why = {
            "stock": "must be expressible by a stock config, which has no additional biases",
            "depth": "removes whole layers, whose contribution no bias can replace",
        }
        raise InvalidConfigError(
            f"The layout {settings.layout} {why[settings.layout]}.",
            field="prune.compensation",
            remedy="Set it to refit or none, or choose another layout.",
        )

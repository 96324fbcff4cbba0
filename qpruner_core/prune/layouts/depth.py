"""Whole layers only: those that change the hidden states least (ShortGPT, arXiv 2403.03853)."""

from __future__ import annotations

from collections.abc import Sequence

from qpruner_core.errors import InvalidConfigError
from qpruner_core.models.reshape import Shape
from qpruner_core.prune.config import PruneConfig
from qpruner_core.prune.importance import LayerImportance
from qpruner_core.prune.layer_sizes import LayerSizes
from qpruner_core.prune.layouts.layout import prunable_layers, refuse_ratio


def depth(
    layer_sizes: LayerSizes,
    settings: PruneConfig,
    ratio: float,
    importance: Sequence[LayerImportance] | None,
    influence: Sequence[float] | None,
) -> Shape:
    """See :class:`qpruner_core.prune.layouts.layout.Layout`; needs the influence. A group is a layer."""
    shape: Shape = list(layer_sizes.widths)
    amount = layer_sizes.parameters_to_remove(ratio)
    if amount <= 0:
        return shape
    order = _least_influence_first(layer_sizes, settings, influence)
    removable = order[: len(shape) - 1]
    for layer in removable:
        cost = layer_sizes.layer_parameters[layer]
        if abs(amount - cost) >= abs(amount):
            break
        shape[layer] = None
        amount -= cost
    if amount > max(layer_sizes.layer_parameters):
        raise refuse_ratio(
            layer_sizes, settings, ratio, sum(layer_sizes.layer_parameters[layer] for layer in removable)
        )
    return shape


def remove_layers(
    layer_sizes: LayerSizes, settings: PruneConfig, count: int, influence: Sequence[float] | None
) -> Shape:
    """The shape of ``layer_sizes`` without the ``count`` unprotected layers of least influence.

    Raises:
        InvalidConfigError: there are fewer.
    """
    order = _least_influence_first(layer_sizes, settings, influence)
    removable = order[: len(layer_sizes.widths) - 1]
    if count > len(removable):
        raise InvalidConfigError(
            f"{count} layers cannot be removed: only {len(removable)} of {layer_sizes.first_layers} are unprotected.",
            field="prune.remove_layers",
            remedy="Remove fewer layers, or protect fewer.",
        )
    gone = set(removable[:count])
    return [None if layer in gone else widths for layer, widths in enumerate(layer_sizes.widths)]


def _least_influence_first(
    layer_sizes: LayerSizes, settings: PruneConfig, influence: Sequence[float] | None
) -> list[int]:
    layers = prunable_layers(layer_sizes, settings)
    return layers if influence is None else sorted(layers, key=lambda layer: influence[layer])

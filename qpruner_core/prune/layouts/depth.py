"""Whole layers only: those that change the hidden states least (ShortGPT, arXiv 2403.03853)."""

from __future__ import annotations

from collections.abc import Sequence

from qpruner_core.errors import InvalidConfigError
from qpruner_core.models.reshape import Shape
from qpruner_core.prune.blocks import Blocks
from qpruner_core.prune.config import PruneConfig
from qpruner_core.prune.importance import LayerImportance
from qpruner_core.prune.layouts.layout import prunable_layers, refuse_ratio


def depth(
    blocks: Blocks,
    settings: PruneConfig,
    ratio: float,
    importance: Sequence[LayerImportance] | None,
    influence: Sequence[float] | None,
) -> Shape:
    """See :class:`qpruner_core.prune.layouts.layout.Layout`; needs the influence. A group is a layer."""
    shape: Shape = list(blocks.widths)
    amount = blocks.parameters_to_remove(ratio)
    if amount <= 0:
        return shape
    order = _least_influence_first(blocks, settings, influence)
    removable = order[: len(shape) - 1]
    for layer in removable:
        cost = blocks.layer_parameters[layer]
        if abs(amount - cost) >= abs(amount):
            break
        shape[layer] = None
        amount -= cost
    if amount > max(blocks.layer_parameters):
        raise refuse_ratio(blocks, settings, ratio, sum(blocks.layer_parameters[layer] for layer in removable))
    return shape


def remove_layers(blocks: Blocks, settings: PruneConfig, count: int, influence: Sequence[float] | None) -> Shape:
    """The shape of ``blocks`` without the ``count`` unprotected layers of least influence.

    Raises:
        InvalidConfigError: there are not so many.
    """
    order = _least_influence_first(blocks, settings, influence)
    removable = order[: len(blocks.widths) - 1]
    if count > len(removable):
        raise InvalidConfigError(
            f"{count} layers cannot be removed: {len(removable)} of {blocks.first_layers} may go.",
            field="prune.remove_layers",
            remedy="Remove fewer layers, or protect fewer.",
        )
    gone = set(removable[:count])
    return [None if layer in gone else widths for layer, widths in enumerate(blocks.widths)]


def _least_influence_first(blocks: Blocks, settings: PruneConfig, influence: Sequence[float] | None) -> list[int]:
    layers = prunable_layers(blocks, settings)
    return layers if influence is None else sorted(layers, key=lambda layer: influence[layer])

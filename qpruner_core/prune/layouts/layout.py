"""The interface of a layout: a function that returns the widths of every layer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from qpruner_core.errors import InvalidConfigError
from qpruner_core.models.families import Unit
from qpruner_core.models.reshape import Shape
from qpruner_core.prune.config import PruneConfig
from qpruner_core.prune.importance import LayerImportance
from qpruner_core.prune.layer_sizes import LayerSizes


class Layout(Protocol):
    """Spreads removal over the layers, so that ``ratio`` of all their parameters is removed."""

    def __call__(
        self,
        layer_sizes: LayerSizes,
        settings: PruneConfig,
        ratio: float,
        importance: Sequence[LayerImportance] | None,
        influence: Sequence[float] | None,
    ) -> Shape:
        """The shape with ``ratio`` of the first model's layer parameters removed, to within one group.

        Args:
            importance: importance of every unit. ``None`` before it is measured: a layout that needs it then returns a
                stand-in shape of about as many parameters.
            influence: influence of every layer on the hidden states; ``None`` before it is measured.

        Raises:
            InvalidConfigError: the settings leave too little to remove.
        """
        ...


def prunable_layers(layer_sizes: LayerSizes, settings: PruneConfig) -> list[int]:
    """The unprotected layers.

    Raises:
        InvalidConfigError: all layers are protected.
    """
    layers = layer_sizes.unprotected(settings.protect_first, settings.protect_last)
    if not layers:
        raise InvalidConfigError(
            f"All {layer_sizes.first_layers} layers are protected, so nothing can be pruned.",
            field="prune.protect_first",
            remedy="Protect fewer layers, or set prune.ratio to 0.",
        )
    return layers


def refuse_ratio(layer_sizes: LayerSizes, settings: PruneConfig, ratio: float, most: float) -> InvalidConfigError:
    """The error for a ``ratio`` that cannot be reached. ``most``: number of parameters that can be removed."""
    possible = layer_sizes.removed_fraction() + most / layer_sizes.first_total
    return InvalidConfigError(
        f"Removing {ratio:.1%} of the layers' parameters is not possible: at most {possible:.1%} can be removed.",
        field="prune.ratio",
        remedy=f"{one_of('choose a smaller ratio', *ways_to_prune_more(layer_sizes, settings)).capitalize()}.",
    )


def ways_to_prune_more(layer_sizes: LayerSizes, settings: PruneConfig) -> list[str]:
    """Changes of the settings that let more be removed, as phrases in the imperative."""
    protects = settings.layout != "stock" and settings.protect_first + settings.protect_last > 0
    ways = ["protect fewer layers (prune.protect_first, prune.protect_last)"] if protects else []
    if settings.layout == "depth":
        return ways
    unprotected = layer_sizes.unprotected(settings.protect_first, settings.protect_last)
    layers = range(len(layer_sizes.widths)) if settings.layout == "stock" else unprotected
    if any(
        Unit.CHANNEL in layer_sizes.unit_parameters[layer]
        and 1 < layer_sizes.widths[layer].intermediate_size <= settings.width_multiple
        for layer in layers
    ):
        ways.append("choose a smaller prune.width_multiple")
    heads = any(layer_sizes.widths[layer].num_attention_heads > 1 for layer in layers)
    if (
        settings.attention_unit == "none"
        and heads
        and (settings.layout != "stock" or layer_sizes.family.explicit_head_dim)
    ):
        ways.append("prune attention too (prune.attention_unit)")
    return ways


def one_of(*ways: str) -> str:
    """The alternatives joined into one phrase."""
    *first, last = ways
    return f"{', '.join(first)}{',' if len(first) > 1 else ''} or {last}" if first else last

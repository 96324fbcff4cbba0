"""What a layout answers: the widths of every layer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from qpruner_core.errors import InvalidConfigError
from qpruner_core.models.families import Unit
from qpruner_core.models.reshape import Shape
from qpruner_core.prune.blocks import Blocks
from qpruner_core.prune.config import PruneConfig
from qpruner_core.prune.importance import LayerImportance


class Layout(Protocol):
    """A way to spread what is removed over the layers, so that ``ratio`` of all their parameters is gone."""

    def __call__(
        self,
        blocks: Blocks,
        settings: PruneConfig,
        ratio: float,
        importance: Sequence[LayerImportance] | None,
        influence: Sequence[float] | None,
    ) -> Shape:
        """The shape of ``blocks`` with ``ratio`` of the first model's layer parameters gone, within one group.

        Args:
            importance: of every unit of ``blocks``; ``None`` before it is measured: the shape is then a stand-in of
                about as many parameters where the layout needs it.
            influence: of every layer of ``blocks`` on the hidden states; ``None`` likewise.

        Raises:
            InvalidConfigError: the settings leave too little to remove.
        """
        ...


def prunable_layers(blocks: Blocks, settings: PruneConfig) -> list[int]:
    """The layers that are not protected.

    Raises:
        InvalidConfigError: all of them are.
    """
    layers = blocks.unprotected(settings.protect_first, settings.protect_last)
    if not layers:
        raise InvalidConfigError(
            f"All {blocks.first_layers} layers are protected, so nothing can be pruned.",
            field="prune.protect_first",
            remedy="Protect fewer layers, or set prune.ratio to 0.",
        )
    return layers


def refuse_ratio(blocks: Blocks, settings: PruneConfig, ratio: float, most: float) -> InvalidConfigError:
    """The error for a ``ratio`` that is not to be had; ``most``: parameters that could be removed from ``blocks``."""
    possible = blocks.removed_fraction() + most / blocks.first_total
    return InvalidConfigError(
        f"Removing {ratio:.1%} of the layers' parameters is not possible: at most {possible:.1%} can go.",
        field="prune.ratio",
        remedy=f"{one_of('choose a smaller ratio', *ways_to_prune_more(blocks, settings)).capitalize()}.",
    )


def ways_to_prune_more(blocks: Blocks, settings: PruneConfig) -> list[str]:
    """What the user may do so that more of ``blocks`` can be removed, as phrases in the imperative."""
    protects = settings.layout != "stock" and settings.protect_first + settings.protect_last > 0
    ways = ["protect fewer layers (prune.protect_first, prune.protect_last)"] if protects else []
    if settings.layout == "depth":
        return ways
    unprotected = blocks.unprotected(settings.protect_first, settings.protect_last)
    layers = range(len(blocks.widths)) if settings.layout == "stock" else unprotected
    if any(
        Unit.CHANNEL in blocks.unit_parameters[layer]
        and 1 < blocks.widths[layer].intermediate_size <= settings.width_multiple
        for layer in layers
    ):
        ways.append("choose a smaller prune.width_multiple")
    heads = any(blocks.widths[layer].num_attention_heads > 1 for layer in layers)
    if settings.attention_unit == "none" and heads and (settings.layout != "stock" or blocks.family.explicit_head_dim):
        ways.append("prune attention too (prune.attention_unit)")
    return ways


def one_of(*ways: str) -> str:
    """These ways as alternatives in a sentence."""
    *first, last = ways
    return f"{', '.join(first)}{',' if len(first) > 1 else ''} or {last}" if first else last

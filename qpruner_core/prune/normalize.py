"""Make the importance of units of different layers comparable, so that they can be ranked together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch

from qpruner_core.models.families import Unit
from qpruner_core.prune.importance import LayerImportance, kv_groups

Normalization = Literal["none", "sum", "mean", "standardize"]
"""``none``: as measured. ``sum``: shares of the layer's sum. ``mean``: multiples of the layer's mean. ``standardize``:
distances from the layer's mean in standard deviations (FLAP, arXiv 2312.11983, section 3.3)."""


def normalize(importance: Sequence[LayerImportance], unit: Unit, how: Normalization) -> list[torch.Tensor]:
    """Importance of the units of one kind, layer by layer, on a common scale: float64 ``[units]`` per layer.

    A layer without units of this kind has an empty tensor; one whose units are all equal has zeros under
    ``standardize``. ``Unit.KEY_VALUE_HEAD`` stands for whole groups, including the query heads that read them. A unit's
    size is ignored: divide by its parameters to rank units of different kinds together.
    """
    return [_scaled(_of_unit(layer, unit), how) for layer in importance]


def _of_unit(layer: LayerImportance, unit: Unit) -> torch.Tensor:
    if unit not in layer:
        return torch.zeros(0, dtype=torch.float64)
    return kv_groups(layer) if unit == Unit.KEY_VALUE_HEAD else layer[unit]


def _scaled(scores: torch.Tensor, how: Normalization) -> torch.Tensor:
    if how == "none" or scores.numel() == 0:
        return scores
    if how == "standardize":
        spread = scores.std(correction=0)
        return (scores - scores.mean()) / spread if spread > 0 else torch.zeros_like(scores)
    scale = scores.sum() if how == "sum" else scores.mean()
    return scores / scale if scale > 0 else scores

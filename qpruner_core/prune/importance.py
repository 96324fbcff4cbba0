"""Interface of a criterion: the importance of every unit of every layer."""

from __future__ import annotations

from typing import Protocol

import torch
from transformers import PreTrainedModel

from qpruner_core.errors import NotFiniteError
from qpruner_core.forward.passes import OnBatch
from qpruner_core.models.families import Cut, Family, LayerWidths, Unit, positions

LayerImportance = dict[Unit, torch.Tensor]
"""Importance of the units of one layer, float64 ``[units]`` per kind. That of a key-value head covers only its keys and
values, without the query heads that read them: see :func:`kv_groups`."""


class Criterion(Protocol):
    """A measure of importance; higher is more important, comparable within one kind of unit in one layer."""

    def __call__(
        self, model: PreTrainedModel, family: Family, calibration: torch.Tensor, on_batch: OnBatch
    ) -> list[LayerImportance]:
        """Importance in every layer of ``model`` (bfloat16 or float32) on ``calibration [sequences, length]``, int64.

        Raises:
            NotFiniteError: the loss or an activation is NaN or infinite.
        """
        ...


def kv_groups(importance: LayerImportance) -> torch.Tensor:
    """Importance of whole groups: key, value and all query heads that read them. Shape ``[key-value heads]``."""
    key_values = importance[Unit.KEY_VALUE_HEAD]
    return key_values + importance[Unit.QUERY_HEAD].view(key_values.numel(), -1).sum(dim=1)


def sum_units(cut: Cut, entries: torch.Tensor, widths: LayerWidths, head_dim: int, into: LayerImportance) -> None:
    """Add ``entries`` (one number per entry of the cut dimension) to their units."""
    for unit, places in positions(cut.axis, widths, head_dim).items():
        total = entries.double().cpu()[places].sum(dim=1)
        into[unit] = into[unit] + total if unit in into else total


def finite(importance: list[LayerImportance]) -> list[LayerImportance]:
    """``importance`` itself, after checking that it is finite.

    Raises:
        NotFiniteError: a score is NaN or infinite.
    """
    for index, layer in enumerate(importance):
        for unit, scores in layer.items():
            if not scores.isfinite().all():
                raise NotFiniteError(
                    f"The importance of a {unit.replace('_', ' ')} in layer {index} is not finite.",
                    field="model",
                    remedy="Check its weights for NaN or infinity, and for overflow if it is in float16.",
                )
    return importance

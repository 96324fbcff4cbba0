"""Magnitude: the sum of the absolute values of a unit's weights (Han et al., arXiv 1506.02626, summed over a group).

Needs no calibration text.
"""

from __future__ import annotations

import torch
from transformers import PreTrainedModel

from qpruner_core.forward.passes import OnBatch
from qpruner_core.models.families import Cut, Family
from qpruner_core.prune.gradients import CutSums, units_of
from qpruner_core.prune.importance import LayerImportance, finite


def magnitude(
    model: PreTrainedModel, family: Family, calibration: torch.Tensor, on_batch: OnBatch
) -> list[LayerImportance]:
    """See :class:`qpruner_core.prune.importance.Criterion`; ``calibration`` is not read."""
    cuts = [family.cuts(layer) for layer in family.decoder_layers(model)]
    sums: list[CutSums] = [{(cut.parameter, cut.dim): _absolute(cut) for cut in layer} for layer in cuts]
    return finite(units_of(model, family, cuts, sums))


def _absolute(cut: Cut) -> torch.Tensor:
    """Sum of the absolute values over all dimensions but that of ``cut``, float64."""
    tensor = cut.tensor.detach()
    others = [dim for dim in range(tensor.dim()) if dim != cut.dim]
    if not others:
        return tensor.double().abs()
    dtype = torch.promote_types(tensor.dtype, torch.float32)
    norms: torch.Tensor = torch.linalg.vector_norm(tensor, ord=1, dim=others, dtype=dtype)
    return norms.double()

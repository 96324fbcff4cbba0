"""Fluctuation (FLAP, arXiv 2312.11983, equation 5): variance of an input feature times the squared norm of its column.

It measures the loss from replacing a feature by its mean, which a bias can represent: see
:mod:`qpruner_core.prune.bias_compensation`. The variance is over all calibration tokens. Computed at the modules at the
end of attention and MLP, and summed over the unit's columns there.
"""

from __future__ import annotations

import torch
from transformers import PreTrainedModel

from qpruner_core.forward.passes import OnBatch
from qpruner_core.models.families import Family
from qpruner_core.prune.activations import FeatureStatistics, reduce_inputs
from qpruner_core.prune.importance import LayerImportance


def flap(model: PreTrainedModel, family: Family, calibration: torch.Tensor, on_batch: OnBatch) -> list[LayerImportance]:
    """See :class:`qpruner_core.prune.importance.Criterion`; key-value heads have importance 0."""
    return reduce_inputs(model, family, calibration, _score, on_batch)


def _score(weight: torch.Tensor, inputs: FeatureStatistics) -> torch.Tensor:
    dtype = torch.promote_types(weight.dtype, torch.float32)
    norms: torch.Tensor = torch.linalg.vector_norm(weight, dim=0, dtype=dtype)
    return norms.double().square() * inputs.variance

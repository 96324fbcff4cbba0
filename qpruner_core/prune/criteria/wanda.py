"""Wanda for structures (Wanda-sp, from FLAP, arXiv 2312.11983; Wanda: arXiv 2306.11695): ``|w|·‖x‖₂``.

x: the input feature that w multiplies, over all calibration tokens; here as its root mean square, so that scores do not
grow with the text. Computed at the modules at the end of attention and MLP, and summed over the unit's columns there.
"""

from __future__ import annotations

import torch
from transformers import PreTrainedModel

from qpruner_core.forward.passes import OnBatch
from qpruner_core.models.families import Family
from qpruner_core.prune.activations import FeatureStatistics, reduce_inputs
from qpruner_core.prune.importance import LayerImportance


def wanda(
    model: PreTrainedModel, family: Family, calibration: torch.Tensor, on_batch: OnBatch
) -> list[LayerImportance]:
    """See :class:`qpruner_core.prune.importance.Criterion`; key-value heads have importance 0."""
    return reduce_inputs(model, family, calibration, _score, on_batch)


def _score(weight: torch.Tensor, inputs: FeatureStatistics) -> torch.Tensor:
    dtype = torch.promote_types(weight.dtype, torch.float32)
    norms: torch.Tensor = torch.linalg.vector_norm(weight, ord=1, dim=0, dtype=dtype)
    return norms.double() * inputs.mean_square.sqrt()

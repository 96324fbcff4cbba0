"""First-order Taylor importance (LLM-Pruner, arXiv 2305.11627, element-wise, equation 4).

For a weight w with loss gradient g the loss changes by about ``-w·g`` when w is removed; a unit's importance is the
sum of ``|w·g|`` over all weights that go with it, averaged over calibration sequences.
"""

from __future__ import annotations

import torch
from transformers import PreTrainedModel

from qpruner_core.forward.passes import OnBatch
from qpruner_core.models.families import Family
from qpruner_core.prune.gradients import reduce_gradients
from qpruner_core.prune.importance import LayerImportance


def taylor_first(
    model: PreTrainedModel, family: Family, calibration: torch.Tensor, on_batch: OnBatch
) -> list[LayerImportance]:
    """See :class:`qpruner_core.prune.importance.Criterion`."""
    return reduce_gradients(model, family, calibration, lambda weight, grad: grad.mul_(weight).abs_(), on_batch)

"""The pruned model of a run, as the stages after pruning need it."""

from __future__ import annotations

from transformers import PreTrainedModel

from qpruner_core.models import load_model
from qpruner_core.models.experts import separate_experts
from qpruner_core.resources import best_device
from qpruner_core.stage import StageContext


def load_pruned_model(context: StageContext) -> PreTrainedModel:
    """The output of the prune stage in 16 bits, with separate experts, on the device of the run."""
    model: PreTrainedModel = load_model(context.finished("prune") / "model").to(best_device())
    return separate_experts(model)

"""Choice of the pruning ratio for a byte budget: pruning more leaves bytes for more bits. Measured, not guessed."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from transformers import PreTrainedModel

from qpruner_core.errors import InvalidConfigError
from qpruner_core.fitting.sampled_bank import sampled_bank
from qpruner_core.measure.divergence import Reference
from qpruner_core.measure.fisher import fisher_sensitivity
from qpruner_core.mixed.memory_model import MemoryModel
from qpruner_core.prune.config import PruneConfig
from qpruner_core.prune.criteria import CRITERIA
from qpruner_core.prune.importance import LayerImportance
from qpruner_core.prune.pruning import MeetsBudget, OnProgress, PruningOptions, prune_to_ratio
from qpruner_core.report import RatioTrial
from qpruner_core.search.knapsack import solve
from qpruner_core.search.learned_losses import additive_loss
from qpruner_core.search.space import SearchSpace
from qpruner_core.stage import StageContext

LARGEST = 0.5
STEP = 0.1
MOST = 4


def candidate_ratios(smallest: float) -> list[float]:
    """Candidate ratios, from the ``smallest`` at which the budget holds."""
    return [ratio for number in range(MOST) if (ratio := round(smallest + number * STEP, 4)) <= max(LARGEST, smallest)]


def ratio_reason(settings: PruneConfig, ratio: float, trials: Sequence[RatioTrial]) -> str:
    """The reason for a run's ``ratio``, in a sentence, empty if the budget needs no pruning; ``trials``: those of
    :func:`choose_ratio`, if it ran."""
    if settings.ratio is not None:
        return "The ratio was given."
    if trials:
        tried = ", ".join(f"{trial.ratio:.1%} ({trial.loss:.4f})" for trial in trials)
        return (
            "The ratio is the one of these with predictions expected to be nearest to the dense model's at "
            "its best precisions in the budget: by KL divergence of the pruned model in nats per token and "
            f"the loss added by the precisions, {tried}."
        )
    if ratio == 0:
        return ""
    needed = "the smallest at which the budget holds with everything at its lowest precision"
    if settings.remove_layers:
        return f"The ratio is that of the removed layers, or {needed} if that is more."
    if settings.ratio_choice == "enough_bits":
        return f"The ratio is {needed}, or more until enough bits per weight are left; all layers are pruned alike."
    return f"The ratio is {needed}; all layers are pruned alike."


def choose_ratio(
    context: StageContext, load: Callable[[], PreTrainedModel], meets_budget: MeetsBudget, on_progress: OnProgress
) -> list[RatioTrial]:
    """The result of each candidate ratio within the budget, by ascending ratio.

    Each candidate is pruned and compared with the dense model by the KL divergence of its predictions (nats per token),
    before any recovery, on text that pruning has not used. The loss of its best precisions, found by the exact
    knapsack, is added. Memory holds one model at a time, a sample of its weights at other precisions, and the dense
    model's predictions.
    """
    text = context.data().probe
    ratios = candidate_ratios(context.plan.ratio)
    dense = load()
    references = [Reference(_logits(dense, sequence)) for sequence in text]
    importance = _importance(context, dense, _part(on_progress, 0.0, 0.2))
    del dense
    trials: list[RatioTrial] = []
    for number, ratio in enumerate(ratios):
        tell = _part(on_progress, 0.2 + 0.8 * number / len(ratios), 0.8 / len(ratios), f"{ratio:.0%} pruned: ")
        try:
            pruned, after = prune_to_ratio(
                load(),
                context.plan.family,
                context.plan.prune,
                ratio,
                context.data().calibration[: context.plan.prune.calibration_sequences],
                PruningOptions(_part(tell, 0.0, 0.5), meets_budget, consume=True, importance=importance),
            )
        except InvalidConfigError:
            if not trials:
                raise
            break  # so much cannot be removed; smaller ratios are known
        mean_bits, size, loss = _mix(context, pruned, text, references, _part(tell, 0.5, 0.5))
        removed = round(after.removed_fraction(), 6)
        trials.append(RatioTrial(ratio=ratio, removed_fraction=removed, bits=mean_bits, bytes=size, loss=loss))
    return trials


def _part(on_progress: OnProgress, start: float, share: float, prefix: str = "") -> OnProgress:
    """Progress of a part that is ``share`` of the whole and begins at ``start``."""
    return lambda done, message: on_progress(start + share * done, prefix + message)


def _importance(
    context: StageContext, dense: PreTrainedModel, on_progress: OnProgress
) -> Sequence[LayerImportance] | None:
    """Importance of the dense model's units, if every candidate is pruned by it."""
    settings = context.plan.prune
    if settings.layout == "depth" or settings.remove_layers or settings.steps > 1:
        return None
    return CRITERIA[settings.criterion](
        dense,
        context.plan.family,
        context.data().calibration[: settings.calibration_sequences],
        lambda done, total: on_progress(done / total, "importance"),
    )


def _mix(
    context: StageContext,
    model: PreTrainedModel,
    text: torch.Tensor,
    references: Sequence[Reference],
    on_progress: OnProgress,
) -> tuple[float, int, float]:
    """Mean bits per weight, bytes, and divergence of ``model`` from the dense model at its best precisions.

    The divergence is the measured one of ``model`` in 16 bits, plus that of its precisions from their sensitivities.
    """
    memory = MemoryModel(model.config, context.plan.family, context.plan.target)
    pruned = sum(
        reference.divergence(_logits(model, sequence)) for reference, sequence in zip(references, text, strict=True)
    )
    calibration = context.data().calibration[: context.config.score.calibration_sequences]
    bank = sampled_bank(context, model, memory.groups, calibration, lambda done: on_progress(0.5 * done, "quantizing"))
    sensitivity = fisher_sensitivity(
        model, bank, calibration,
        samples=context.config.score.fisher_samples, seed=context.config.seed,
        on_piece=lambda done, total: on_progress(0.5 + 0.5 * done / total, "sensitivity"),
    )  # fmt: skip
    allocation = solve(SearchSpace.of(memory, context.plan.memory_budget), sensitivity)
    loss = pruned / text.numel() + additive_loss(sensitivity, allocation)
    return memory.mean_bits(allocation), memory.total(allocation), loss


@torch.no_grad()
def _logits(model: PreTrainedModel, sequence: torch.Tensor) -> torch.Tensor:
    logits: torch.Tensor = model(input_ids=sequence.unsqueeze(0).to(model.device), use_cache=False).logits[0]
    return logits

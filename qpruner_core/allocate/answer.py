"""Another budget, answered without the model from what a search left behind."""

from __future__ import annotations

from collections.abc import Sequence

from qpruner_core.allocate import knapsack
from qpruner_core.allocate.learned_losses import additive_loss, learned_losses
from qpruner_core.allocate.screening import Screening
from qpruner_core.allocate.space import Allocation, SearchSpace
from qpruner_core.allocate.trial import Trial
from qpruner_core.score.scores import Scores


def answer(scores: Scores, trials: Sequence[Trial], space: SearchSpace) -> tuple[Allocation, float]:
    """The allocation for ``space``'s budget by stored ``scores`` and ``trials`` of any budgets, and its expected loss.

    It is the exact knapsack over what each precision costs by both, unless a trial that fits gave less than that
    promises. Trials that were stopped early count by what they showed: they tell what must not be chosen. A tighter
    budget never gets more bytes. It needs no model and takes as long as a knapsack does.
    """
    screening = Screening.of(trials)
    learned = learned_losses(
        scores.sensitivity, [trial.bits for trial in trials], [screening.in_full(trial) for trial in trials]
    )
    bits = knapsack.solve(space, learned)
    promised = additive_loss(learned, bits)
    measured = {trial.bits: trial.loss for trial in trials if not trial.stopped_early and space.fits(trial.bits)}
    better = [bits for bits, loss in measured.items() if loss < promised]
    if better:
        bits = min(better, key=lambda bits: (measured[bits], space.total(bits)))
    return bits, measured.get(bits, promised)

"""The best allocation for another budget, from a finished search and without the model."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from qpruner_core.allocate.config import ObjectiveName
from qpruner_core.search import knapsack
from qpruner_core.search.learned_losses import Losses, learned_losses
from qpruner_core.search.scores import Scores
from qpruner_core.search.screening import Screening
from qpruner_core.search.space import Allocation, SearchSpace
from qpruner_core.search.trial import MeasuredTrial


def answer(
    scores: Scores, trials: Sequence[MeasuredTrial], space: SearchSpace, objective: ObjectiveName = "divergence"
) -> tuple[Allocation, float]:
    """The allocation for ``space``'s budget from stored ``scores`` and ``trials`` of any budgets, and its expected
    loss.

    The trials' losses are of ``objective``. The result is the best trial that fits, or the exact knapsack over the
    costs of each precision, learned from scores and trials, if that has a lower expected loss. Trials that were stopped
    early count with their screening loss. A tighter budget never gets more bytes. Takes as long as a few knapsacks.
    """
    screening = Screening.of(trials)
    learned = learned_losses(
        scores.sensitivity,
        [trial.precisions for trial in trials],
        [screening.in_full(trial) for trial in trials],
        objective,
    )
    expected = {
        trial.precisions: trial.loss for trial in trials if not trial.stopped_early and space.fits(trial.precisions)
    }
    untried = _untried(space, learned.costs, {trial.precisions for trial in trials})
    if untried is None and not expected:
        untried = space.smallest  # hopeless, but nothing else fits
    if untried is not None:
        expected[untried] = learned.expected(untried)
    allocation = min(expected, key=lambda allocation: (expected[allocation], space.total(allocation)))
    return allocation, expected[allocation]


def _untried(space: SearchSpace, losses: Losses, tried: Collection[Allocation]) -> Allocation | None:
    """The first untried allocation of the knapsacks for this budget and ever smaller ones. For tried ones, the trial is
    trusted over the predicted loss."""
    least = space.total(space.smallest)
    while (allocation := knapsack.solve(space, losses)) in tried:
        if space.total(allocation) == least:
            return None
        space = space.with_budget(space.total(allocation) - 1)
    return allocation

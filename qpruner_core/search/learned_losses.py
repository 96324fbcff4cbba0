"""Cost of each precision of each group, learned from measured whole allocations.

Scores are measured one group at a time, so they miss interactions: if one group creates large activations and another
removes them, either alone may look harmless. Whole allocations reveal that. Their losses are fitted as sums of costs
that never fall with a smaller precision: first the few steps of precision that explain losses far above the scores
(matching pursuit: since costs are not negative, one good trial clears every step that it takes), then small corrections
of all of them (ridge).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import nnls

from qpruner_core.allocate.config import ObjectiveName
from qpruner_core.precision_names import BITS_PER_WEIGHT
from qpruner_core.search.space import Allocation

_STIFFNESS = 0.1
"""Weight of a cost's relative change against a trial's relative error."""
_EXPLAINS = 0.3
"""Least sum of squared relative errors that a step missed by the scores must explain; 1 is one whole trial."""
_MISSED = 8
_LARGEST_PROPORTION = 4.0

Losses = list[dict[str, float]]
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class LearnedLosses:
    """``costs`` of every option of every group, in addition to the loss of the model without quantization
    (``floor``)."""

    costs: Losses
    floor: float

    def expected(self, allocation: Sequence[str]) -> float:
        """The loss of an allocation of independent groups."""
        return self.floor + additive_loss(self.costs, allocation)


def learned_losses(
    scores: Sequence[Mapping[str, float]],
    allocations: Sequence[Allocation],
    losses: Sequence[float],
    objective: ObjectiveName = "divergence",
) -> LearnedLosses:
    """Combine ``scores`` of groups with the ``losses`` of whole allocations.

    A divergence is 0 without quantization. A loss on text is not, and was not measured there: its floor is extrapolated
    from the proportion between losses and scores.
    """
    if objective == "divergence" or not losses:
        return LearnedLosses(_costs(scores, allocations, losses), 0.0)
    expected = np.array([additive_loss(scores, row) for row in allocations])
    spread = float(((expected - expected.mean()) ** 2).sum())
    rise = float(((expected - expected.mean()) * np.array(losses)).sum()) / spread if spread > 0 else 1.0
    rise = min(max(rise, 1 / _LARGEST_PROPORTION), _LARGEST_PROPORTION)
    floor = max(float((np.array(losses) - rise * expected).min()), 0.0)
    return LearnedLosses(_costs(scores, allocations, [loss - floor for loss in losses]), floor)


def additive_loss(losses: Sequence[Mapping[str, float]], allocation: Sequence[str]) -> float:
    """The sum over groups of their cost at its precision."""
    return sum(loss[option] for loss, option in zip(losses, allocation, strict=True))


def _costs(scores: Sequence[Mapping[str, float]], allocations: Sequence[Allocation], losses: Sequence[float]) -> Losses:
    """The cost of every option of every group, which together give the ``losses``."""
    orders = [_by_size(score) for score in scores]
    places = [{option: place for place, option in enumerate(order)} for order in orders]
    steps = [(group, place) for group, order in enumerate(orders) for place in range(len(order))]
    taken = np.array(
        [[places[group][row[group]] <= place for group, place in steps] for row in allocations], dtype=np.float64
    )
    prior = np.array([_step(scores[group], orders[group], place) for group, place in steps])
    measured = np.maximum(np.array(losses, dtype=np.float64), 1e-9)
    costs = prior
    if len(allocations):
        prior = prior * _proportion(taken @ prior, measured)
        costs = _corrected(taken / measured[:, None], prior + _missed(taken / measured[:, None], prior))
    found: Losses = [dict.fromkeys(score, 0.0) for score in scores]
    for (group, step), cost in zip(steps, costs, strict=True):
        for option in orders[group][: step + 1]:
            found[group][option] += float(cost)
    return found


def _by_size(score: Mapping[str, float]) -> list[str]:
    """Options by ascending size; of equal sizes, the more expensive one first."""
    return sorted(score, key=lambda option: (BITS_PER_WEIGHT[option], -score[option]))


def _step(score: Mapping[str, float], order: Sequence[str], place: int) -> float:
    """Cost of the option at ``place`` of ``order`` above that of the next higher precision."""
    return max(score[order[place]] - (score[order[place + 1]] if place + 1 < len(order) else 0.0), 0.0)


def _proportion(expected: Floats, measured: Floats) -> float:
    """Measured over expected loss, of the trial that did best by it. Others may include interactions unknown to the
    scores, or all of them do, if even that ratio is out of proportion."""
    ratio = float((measured / np.maximum(expected, 1e-9)).min())
    return min(max(ratio, 1 / _LARGEST_PROPORTION), _LARGEST_PROPORTION)


def _missed(taken: Floats, prior: Floats) -> Floats:
    """Additional costs of a few steps on top of ``prior`` for ``taken @ costs`` to approach 1."""
    error = 1 - taken @ prior
    steps: list[int] = []
    extra = np.zeros(len(prior))
    for _ in range(_MISSED):
        left = error - taken @ extra
        explained = np.maximum(taken.T @ left, 0.0) ** 2 / np.maximum((taken**2).sum(axis=0), 1e-300)
        explained[steps] = 0.0
        if explained.max() < _EXPLAINS:
            break
        steps.append(int(explained.argmax()))
        extra[steps] = nnls(taken[:, steps], error)[0]
    return extra


def _corrected(taken: Floats, prior: Floats) -> Floats:
    """Non-negative costs near ``prior`` with ``taken @ costs`` near 1.

    Ridge regression in its dual form, because there are many costs and few trials. Costs that would be negative are
    fixed at zero, and the others fitted again.
    """
    # In units of each cost's own scale, so that the solver gets numbers of similar size
    scale = prior + max(float(np.median(prior)), 1e-9) * 0.1
    lowest = -prior / scale
    weighted, error = taken * scale, 1 - taken @ prior
    free = np.ones(len(prior), dtype=bool)
    change = np.zeros_like(prior)
    while True:
        some = weighted[:, free]
        left = error - weighted[:, ~free] @ lowest[~free]
        change[free] = some.T @ np.linalg.solve(some @ some.T + _STIFFNESS * np.eye(len(some)), left)
        negative = free & (change < lowest)
        if not negative.any():
            return np.maximum(prior + change * scale, 0.0)
        free &= ~negative
        change[negative] = lowest[negative]

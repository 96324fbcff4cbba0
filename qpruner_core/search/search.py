"""The search for the allocation of least loss within a budget, with an ask/tell interface.

The process and the acquisition are scikit-optimize's. Its own ``Optimizer`` supports no constraint that couples
dimensions, so they work on candidates that meet the budget by construction.

``settings.prior`` "none" is the paper's search (QPruner, arXiv 2412.11629): a Gaussian process on the loss, seeded with
the mutual-information allocation and random ones. "additive" knows the cost of each precision: the scores, corrected by
the trials so far. Their exact knapsack is one proposal, and the process models the unexplained rest. It stays near the
first knapsack: each group has the precisions beside its own there, so that a few fits of each module suffice for all
trials.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterable, Sequence

import numpy as np
from scipy.stats import norm
from skopt.acquisition import gaussian_ei

from qpruner_core.allocate.config import AllocateConfig
from qpruner_core.search import knapsack
from qpruner_core.search.candidates import candidates
from qpruner_core.search.gaussian_process import Floats, GaussianProcess, logarithm
from qpruner_core.search.learned_losses import LearnedLosses, learned_losses
from qpruner_core.search.neighbourhood import near
from qpruner_core.search.scores import Scores
from qpruner_core.search.screening import Screening
from qpruner_core.search.seeds import at_random, by_mutual_information, uniform
from qpruner_core.search.space import Allocation, SearchSpace
from qpruner_core.search.trial import Proposal, Trial, TrialMeasurement

FRONT = "front"
"""Origin of trials under other budgets."""
_PARENTS = 5
_ATTEMPTS = 50


class AllocationSearch:
    """Proposes allocations within the space's budget and records their results. Deterministic for a seed, the order of
    calls and the losses."""

    def __init__(self, space: SearchSpace, scores: Scores, settings: AllocateConfig, *, seed: int) -> None:
        self.trials: list[Trial] = []
        self._whole = space
        learns = settings.search == "bayesian" and settings.prior == "additive"
        self._space = near(space, scores.sensitivity) if learns else space
        self._scores = scores
        self._settings = settings
        self._random = random.Random(seed)  # noqa: S311 - a search, not a secret
        self._seed = seed
        self._pending: dict[int, Proposal] = {}
        self._asked: set[Allocation] = set()
        self._seeds = self._seed_allocations()

    # -- ask and tell

    def ask(self, count: int = 1) -> list[Proposal]:
        """Up to ``count`` proposals that may be measured at once; none at the end of the search."""
        found: list[Proposal] = []
        while len(found) < count and len(self._asked) < self._settings.trials:
            chosen = self._next()
            if chosen is None:
                break
            found.append(self._propose(*chosen))
        return found

    def tell(self, proposal: Proposal, measured: TrialMeasurement) -> Trial:
        """Record the result of ``proposal``."""
        del self._pending[proposal.index]
        trial = Trial(
            index=proposal.index,
            origin=proposal.origin,
            precisions=proposal.precisions,
            bytes=proposal.bytes,
            loss=measured.loss,
            screening_loss=measured.screening_loss,
            sequences=measured.sequences,
            seconds=measured.seconds,
            stopped_early=measured.sequences < proposal.sequences,
        )
        self.trials.append(trial)
        return trial

    def run(
        self,
        measure: Callable[[Sequence[Proposal]], Iterable[TrialMeasurement]],
        on_trial: Callable[[Trial], None],
    ) -> list[Trial]:
        """Ask, ``measure`` (many at once, with results in order) and tell until search and front are done."""

        def tell_all(proposals: Sequence[Proposal]) -> None:
            for proposal, measured in zip(proposals, measure(proposals), strict=True):
                on_trial(self.tell(proposal, measured))

        while proposals := self.ask(self._settings.batch):
            tell_all(proposals)
        tell_all(self.ask_front())
        return self.trials

    @property
    def reach(self) -> list[list[str]]:
        """Options of each group for proposals within the budget."""
        alone = self._settings.trials == 1 or self._settings.search in ("knapsack", "mutual_information", "uniform")
        if alone and self._seeds:
            return [[option] for option in self._seeds[0][1]]
        return [list(self._space.options(group)) for group in range(len(self._space))]

    @property
    def best(self) -> Trial:
        """Of the trials within the budget that were measured in full, the one with the least loss; the smallest among
        equals."""
        return self._by_loss()[0]

    def _by_loss(self) -> list[Trial]:
        full = [trial for trial in self.trials if not trial.stopped_early and self._whole.fits(trial.precisions)]
        return sorted(full, key=lambda trial: (trial.loss, trial.bytes, trial.index))

    def ask_front(self) -> list[Proposal]:
        """Proposals for budgets from the smallest to the largest, measured after the search."""
        low, high = self._whole.total(self._whole.smallest), self._whole.total(self._whole.largest)
        costs = self._learned().costs
        found: list[Proposal] = []
        for step in range(self._settings.front_points):
            budget = low + (high - low) * step // max(self._settings.front_points - 1, 1)
            allocation = knapsack.solve(self._whole.with_budget(budget), costs)
            if allocation not in self._asked:
                found.append(self._propose(FRONT, allocation))
        return found

    def _propose(self, origin: str, allocation: Allocation) -> Proposal:
        full, few = self._settings.calibration_sequences, self._settings.screening_sequences
        proposal = Proposal(
            index=len(self._asked),
            origin=origin,
            precisions=allocation,
            bytes=self._whole.total(allocation),
            sequences=full,
            screening=min(few, full),
            stop_above=self._stop_above() if origin != FRONT else math.inf,
        )
        self._asked.add(allocation)
        self._pending[proposal.index] = proposal
        return proposal

    # -- choice of proposals

    def _seed_allocations(self) -> list[tuple[str, Allocation]]:
        """The first proposals; the only ones for strategies with one allocation."""
        information = self._scores.mutual_information
        named: dict[str, Callable[[], Allocation]] = {
            "knapsack": lambda: knapsack.solve(self._space, self._scores.sensitivity),
            "mutual_information": lambda: by_mutual_information(self._space, information),
            "uniform": lambda: uniform(self._space),
        }
        search = self._settings.search
        if search in named:
            return [(search, named[search]())]
        if search == "random":
            return []
        first = ["mutual_information"] if self._settings.prior == "none" else list(named)
        seeds = [(name, named[name]()) for name in first]
        return seeds + [("random", at_random(self._space, self._random)) for _ in range(self._settings.random_seeds)]

    def _next(self) -> tuple[str, Allocation] | None:
        while self._seeds:
            origin, allocation = self._seeds.pop(0)
            if allocation not in self._asked:
                return origin, allocation
        if self._settings.search == "bayesian":
            return self._acquire()
        return self._another_at_random() if self._settings.search == "random" else None

    def _another_at_random(self) -> tuple[str, Allocation] | None:
        for _ in range(_ATTEMPTS):
            allocation = at_random(self._space, self._random)
            if allocation not in self._asked:
                return "random", allocation
        return None

    def _acquire(self) -> tuple[str, Allocation] | None:
        """The most promising allocation: the knapsack over the known costs of each precision, or the candidate with the
        most expected improvement for its cost."""
        if not self.trials:
            return self._another_at_random()
        learned = self._learned()
        parents: list[Allocation] = []
        if self._settings.prior == "additive":
            allocation = knapsack.solve(self._space, learned.costs)
            if allocation not in self._asked:
                return "knapsack", allocation
            parents = [allocation]
        found = [allocation for allocation in self._candidates(parents) if allocation not in self._asked]
        if not found:
            return None
        process = self._fitted(learned)
        mean, deviation = process.predict(found)
        target = self._value(self.best.loss)
        improvement = gaussian_ei(np.zeros((len(found), 1)), _Predicted(mean, deviation), y_opt=target)
        return "bayesian", found[int(np.argmax(improvement / self._costs(mean, deviation)))]

    def _candidates(self, parents: list[Allocation]) -> list[Allocation]:
        parents = parents + [trial.precisions for trial in self._by_loss()[:_PARENTS]]
        return candidates(self._space, parents, self._settings.candidates, self._random)

    def _costs(self, mean: Floats, deviation: Floats) -> Floats:
        """Expected number of sequences that each candidate will be measured on: the time of a trial, without its
        noise."""
        few, full = self._settings.screening_sequences, self._settings.calibration_sequences
        stop = self._stop_above()
        if few >= full or math.isinf(stop):
            return np.ones_like(mean)
        survives = norm.cdf((self._value(stop) - mean) / np.maximum(deviation, 1e-9))
        costs: Floats = few + (full - few) * survives
        return costs

    # -- results so far

    def _screening(self) -> Screening:
        return Screening.of(self.trials)

    def _stop_above(self) -> float:
        """Only the search that learns from it stops trials early; the paper's and the random one do not."""
        learns = self._settings.search == "bayesian" and self._settings.prior == "additive"
        return self._screening().stop_above() if learns else math.inf

    def _value(self, loss: float) -> float:
        return loss if self._settings.prior == "none" else logarithm(loss)

    def _learned(self) -> LearnedLosses:
        screening = self._screening()
        return learned_losses(
            self._scores.sensitivity,
            [trial.precisions for trial in self.trials],
            [screening.in_full(trial) for trial in self.trials],
            self._settings.objective,
        )

    def _fitted(self, learned: LearnedLosses) -> GaussianProcess:
        """The process on all trials. Pending proposals count with their expected result, so that the next one
        differs."""
        if self._settings.prior == "none":
            process = GaussianProcess(self._space, lambda allocation: 0.0, self._seed)
        else:
            process = GaussianProcess(
                self._space, lambda allocation: logarithm(learned.expected(allocation)), self._seed
            )
        screening = self._screening()
        allocations = [trial.precisions for trial in self.trials]
        values = [self._value(screening.in_full(trial)) for trial in self.trials]
        noise = [screening.variance if trial.stopped_early else 0.0 for trial in self.trials]
        process.fit(allocations, values, noise)
        out = [proposal.precisions for proposal in self._pending.values()]
        if out:
            expected, _ = process.predict(out)
            process.fit(allocations + out, [*values, *map(float, expected)], noise + [0.0] * len(out))
        return process


class _Predicted:
    """Computed predictions, in the form of a model for scikit-optimize's acquisition functions."""

    def __init__(self, mean: Floats, deviation: Floats) -> None:
        self._mean = mean
        self._deviation = deviation

    def predict(self, points: Floats, return_std: bool = True) -> tuple[Floats, Floats]:
        """Mean and standard deviation of every point."""
        return self._mean, self._deviation

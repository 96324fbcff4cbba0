"""Bayesian optimisation of the allocation: a Gaussian process over layers' bits, expected improvement, hard budget.

scikit-optimize's own ``Optimizer`` knows no constraint that couples dimensions, so its process and its acquisition
are used on candidates that keep the budget by construction: swaps of bits between layers of good trials, and random
allocations. The process models the logarithm of a trial's loss over the loss that would follow if layers did not
interact (the additive sensitivity is the prior mean).
"""

from __future__ import annotations

import math
import random
import warnings
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from skopt.acquisition import gaussian_ei
from skopt.learning import GaussianProcessRegressor
from skopt.learning.gaussian_process.kernels import ConstantKernel, Matern, WhiteKernel

from qpruner_core.allocate.config import AllocateConfig
from qpruner_core.allocate.memory_model import MemoryModel
from qpruner_core.allocate.seeds import Allocation, at_random, by_mutual_information, by_sensitivity, uniform
from qpruner_core.allocate.trial import Trial
from qpruner_core.score.scores import Scores

_TINY = 1e-9  # a loss of 0 (all layers at 16 bits) has no logarithm
_PARENTS = 5


class AllocationSearch:
    """Proposes allocations within ``budget`` and remembers how they did. Deterministic for a seed."""

    def __init__(
        self, memory: MemoryModel, scores: Scores, settings: AllocateConfig, *, budget: int, seed: int
    ) -> None:
        self.trials: list[Trial] = []
        self._memory = memory
        self._scores = scores
        self._settings = settings
        self._budget = budget
        self._random = random.Random(seed)  # noqa: S311 - a search, not a secret
        self._seed = seed

    def run(self, evaluate: Callable[[Allocation], float], on_trial: Callable[[Trial], None]) -> list[Trial]:
        """Try up to ``settings.trials`` allocations; fewer if there are no more to try."""
        for origin, allocation in self._seeds():
            self._try(origin, allocation, evaluate, on_trial)
        while len(self.trials) < self._settings.trials:
            proposal = self._propose()
            if proposal is None:
                break
            self._try("bayesian", proposal, evaluate, on_trial)
        return self.trials

    @property
    def best(self) -> Trial:
        """The trial of least loss; of equals the smallest, then the first."""
        return min(self.trials, key=lambda trial: (trial.loss, trial.bytes, trial.index))

    def _seeds(self) -> list[tuple[str, Allocation]]:
        given = (self._memory, self._budget)
        seeds = [
            ("sensitivity", by_sensitivity(*given, self._scores)),
            ("mutual_information", by_mutual_information(*given, self._scores)),
            ("uniform", uniform(*given)),
        ]
        seeds += [("random", at_random(*given, self._random)) for _ in range(self._settings.random_seeds)]
        return seeds

    def _try(
        self,
        origin: str,
        allocation: Allocation,
        evaluate: Callable[[Allocation], float],
        on_trial: Callable[[Trial], None],
    ) -> None:
        if len(self.trials) >= self._settings.trials or allocation in {trial.bits for trial in self.trials}:
            return
        trial = Trial(
            index=len(self.trials),
            origin=origin,
            bits=allocation,
            bytes=self._memory.total(allocation),
            loss=evaluate(allocation),
        )
        self.trials.append(trial)
        on_trial(trial)

    def _propose(self) -> Allocation | None:
        candidates = self._candidates()
        if not candidates:
            return None
        process = self._fit()
        target = min(self._residual(trial.bits, trial.loss) + self._prior(trial.bits) for trial in self.trials)
        # Expected improvement is of the loss, whose mean is prior + residual: shift each candidate's target instead.
        mean, deviation = process.predict(self._features(candidates), return_std=True)
        shifted = mean + np.array([self._prior(candidate) for candidate in candidates])
        improvement = gaussian_ei(np.zeros((len(candidates), 1)), _Predicted(shifted, deviation), y_opt=target)
        return candidates[int(np.argmax(improvement))]

    def _fit(self) -> GaussianProcessRegressor:
        kernel = ConstantKernel(1.0, (1e-3, 1e3)) * Matern(length_scale=3.0, length_scale_bounds=(0.3, 30), nu=2.5)
        process = GaussianProcessRegressor(
            kernel=kernel + WhiteKernel(1e-3, (1e-6, 1e-1)), normalize_y=True, random_state=self._seed
        )
        residuals = [self._residual(trial.bits, trial.loss) for trial in self.trials]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # bounds reached while few trials are known
            process.fit(self._features([trial.bits for trial in self.trials]), residuals)
        return process

    def _features(self, allocations: list[Allocation]) -> NDArray[np.float64]:
        return np.log2(np.array(allocations, dtype=np.float64)) - 2  # 4, 8, 16 bits become 0, 1, 2

    def _prior(self, bits: Allocation) -> float:
        return math.log(self._scores.additive_loss(bits) + _TINY)

    def _residual(self, bits: Allocation, loss: float) -> float:
        return math.log(loss + _TINY) - self._prior(bits)

    def _candidates(self) -> list[Allocation]:
        """Allocations not yet tried, all within the budget, in a fixed order."""
        parents = sorted(self.trials, key=lambda trial: (trial.loss, trial.index))[:_PARENTS]
        tried = {trial.bits for trial in self.trials}
        found: dict[Allocation, None] = {}
        for _ in range(self._settings.candidates):
            if self._random.random() < 0.2:
                candidate = at_random(self._memory, self._budget, self._random)
            else:
                candidate = self._swap(self._random.choice(parents).bits)
            if candidate not in tried:
                found[candidate] = None
        return list(found)

    def _swap(self, bits: Allocation) -> Allocation:
        """Raise some layers and lower others, then lower random ones until the budget holds again."""
        changed = list(bits)
        for _ in range(self._random.choice((1, 1, 2, 3))):
            index = self._random.randrange(len(changed))
            changed[index] = self._random.choice(self._memory.groups[index].options)
        while self._memory.total(changed) > self._budget:
            lowerable = [index for index, lowest in enumerate(self._memory.lowest) if changed[index] > lowest]
            index = self._random.choice(lowerable)
            changed[index] = max(bit for bit in self._memory.groups[index].options if bit < changed[index])
        return self._fill(changed)

    def _fill(self, bits: list[int]) -> Allocation:
        """Spend what room is left on random rises."""
        for layer in self._random.sample(range(len(bits)), len(bits)):
            for higher in self._memory.groups[layer].options:
                extra = self._memory.group(layer, higher) - self._memory.group(layer, bits[layer])
                if higher > bits[layer] and self._memory.total(bits) + extra <= self._budget:
                    bits[layer] = higher
        return tuple(bits)


class _Predicted:
    """Predictions already made, in the shape that scikit-optimize's acquisition functions ask a model for."""

    def __init__(self, mean: NDArray[np.float64], deviation: NDArray[np.float64]) -> None:
        self._mean = mean
        self._deviation = deviation

    def predict(
        self, points: NDArray[np.float64], return_std: bool = True
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Mean and standard deviation of every point."""
        return self._mean, self._deviation

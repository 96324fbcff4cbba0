"""Gaussian processes over allocations: expected result of a trial, and its uncertainty."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray
from skopt.learning import GaussianProcessRegressor
from skopt.learning.gaussian_process.kernels import ConstantKernel, Matern, WhiteKernel

from qpruner_core.precision_names import BITS_PER_WEIGHT
from qpruner_core.search.space import Allocation, SearchSpace

_MOST = 200
"""Observations that a process is fitted to: its time grows with their cube."""

Floats = NDArray[np.float64]


class GaussianProcess:
    """A Matérn 5/2 process over the groups' precisions on ``value(allocation, loss)``, after subtracting
    ``mean(allocation)``.

    Observations are the allocations, their values, and the variance of the noise in each.
    """

    def __init__(self, space: SearchSpace, mean: Callable[[Allocation], float], seed: int) -> None:
        self._space = space
        self._mean = mean
        self._seed = seed
        self._process: GaussianProcessRegressor | None = None

    def fit(self, allocations: Sequence[Allocation], values: Sequence[float], noise: Sequence[float]) -> None:
        """Fit to observations; if there are many, to the last and the best of them."""
        best = sorted(range(len(allocations)), key=lambda index: (values[index], index))[: _MOST // 2]
        kept = sorted({*best, *range(max(0, len(allocations) - _MOST // 2), len(allocations))})
        residuals = np.array([values[index] - self._mean(allocations[index]) for index in kept])
        self._centre = float(residuals.mean())
        self._scale = max(float(residuals.std()), 1e-3)
        kernel = ConstantKernel(1.0, (1e-2, 1e2)) * Matern(length_scale=3.0, length_scale_bounds=(0.3, 30), nu=2.5)
        self._process = GaussianProcessRegressor(
            kernel=kernel + WhiteKernel(1e-3, (1e-6, 1e-1)),
            alpha=np.array([noise[index] for index in kept]) / self._scale**2 + 1e-10,
            random_state=self._seed,
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # bounds reached while there are few trials
            self._process.fit(
                self._features([allocations[index] for index in kept]), (residuals - self._centre) / self._scale
            )

    def predict(self, allocations: Sequence[Allocation]) -> tuple[Floats, Floats]:
        """Mean and standard deviation of the value of each allocation."""
        if self._process is None:
            raise RuntimeError("call fit first")
        mean, deviation = self._process.predict(self._features(allocations), return_std=True)
        prior = np.array([self._mean(one) for one in allocations])
        return prior + self._centre + self._scale * mean, self._scale * deviation

    def _features(self, allocations: Sequence[Allocation]) -> Floats:
        sizes = [[BITS_PER_WEIGHT[precision] for precision in allocation] for allocation in allocations]
        return np.log2(np.array(sizes, dtype=np.float64)) - 2  # 4, 8, 16 bits become 0, 1, 2


def logarithm(loss: float) -> float:
    """The logarithm of a loss, which may be 0 (without quantization)."""
    return math.log(loss + 1e-9)

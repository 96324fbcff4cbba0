"""How far each estimator of mutual information is off, over sample size, where the answer is known."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel
from scipy.special import logsumexp

from qpruner_core.score.config import ScoreConfig
from qpruner_core.score.information import ESTIMATORS

_KNOWN_SAMPLES, _CHUNK = 50_000, 10_000
_HIDDEN_SIZE, _LABELS = 576, 64


class EstimatorError(BaseModel):
    """``bias``: mean estimate less ``known``; ``deviation``: of single estimates; all in nats, over several samples."""

    case: str
    estimator: str
    samples: int
    known: float
    bias: float
    deviation: float


@dataclass(frozen=True)
class Mixture:
    """X is normal around one of ``means [components, d]`` with the standard deviations ``scales [d]``; Y is that
    component's entry of ``labels``; ``weights``: how likely each component is."""

    name: str
    means: NDArray[np.float64]
    scales: NDArray[np.float64]
    weights: NDArray[np.float64]
    labels: NDArray[np.int64]

    def sample(self, count: int, generator: np.random.Generator) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Vectors ``[count, d]`` and labels ``[count]``."""
        component = generator.choice(len(self.weights), count, p=self.weights)
        noise = generator.normal(size=(count, len(self.scales)))
        return (self.means[component] + noise * self.scales).astype(np.float32), self.labels[component]

    def information(self) -> float:
        """I(X; Y) in nats: the mean of ``log p(y|x) / p(y)`` with the true p, over 50,000 samples."""
        generator = np.random.default_rng(0)
        parts = [self._pointwise(*self.sample(_CHUNK, generator)) for _ in range(_KNOWN_SAMPLES // _CHUNK)]
        return float(np.concatenate(parts).mean())

    def _pointwise(self, vectors: NDArray[np.float32], labels: NDArray[np.int64]) -> NDArray[np.float64]:
        scaled, means = vectors / self.scales, self.means / self.scales
        joint = scaled @ means.T - (means**2).sum(axis=1) / 2 + np.log(self.weights)
        own = np.where(self.labels == labels[:, None], joint, -np.inf)
        prior = np.array([self.weights[self.labels == label].sum() for label in labels])
        found: NDArray[np.float64] = logsumexp(own, axis=1) - logsumexp(joint, axis=1) - np.log(prior)
        return found


def cases() -> list[Mixture]:
    """Few and many dimensions and labels, dependence that a plane tells and that none does, and independence.

    576 dimensions have a spectrum like ``1 / sqrt(rank)``; 64 labels are as unequal as words are, ``1 / rank``.
    """
    generator = np.random.default_rng(0)
    spectrum = 1 / np.sqrt(np.arange(1, _HIDDEN_SIZE + 1))
    zipf = 1 / np.arange(1, _LABELS + 1)
    words = {"scales": spectrum, "weights": zipf / zipf.sum(), "labels": np.arange(_LABELS)}
    centres = generator.normal(size=(_LABELS, _HIDDEN_SIZE)) * spectrum
    corners = np.array([[-2.0, -2.0], [2.0, 2.0], [-2.0, 2.0], [2.0, -2.0]])
    four, pairs = np.full(4, 0.25), np.array([0, 0, 1, 1])
    wide = np.hstack([corners, np.zeros((4, _HIDDEN_SIZE - 2))])
    beside = np.hstack([np.ones(2), 0.5 * spectrum[: _HIDDEN_SIZE - 2]])
    return [
        Mixture("4 labels, 2 dimensions", corners / 2, np.ones(2), four, np.arange(4)),
        Mixture("2 labels as exclusive or, 2 dimensions", corners, np.ones(2), four, pairs),
        Mixture("the same, 576 dimensions", wide, beside, four, pairs),
        Mixture("64 labels, 576 dimensions", 0.15 * centres, **words),
        Mixture("64 labels, 576 dimensions, clearer", 0.5 * centres, **words),
        Mixture("64 labels, 576 dimensions, independent", 0 * centres, **words),
    ]


def estimator_errors(
    mixtures: Sequence[Mixture],
    settings: ScoreConfig,
    sizes: Sequence[int],
    seeds: int,
    on_row: Callable[[EstimatorError], None],
) -> list[EstimatorError]:
    """Bias and deviation of every estimator on each of ``mixtures``, over ``seeds`` samples of each size."""
    rows = []
    for case in mixtures:
        known = case.information()
        for size in sizes:
            drawn = [case.sample(size, np.random.default_rng([seed, size])) for seed in range(seeds)]
            for name, estimate in ESTIMATORS.items():
                found = [estimate(vectors, labels, settings, seed) for seed, (vectors, labels) in enumerate(drawn)]
                row = EstimatorError(
                    case=case.name, estimator=name, samples=size, known=known,
                    bias=float(np.mean(found)) - known, deviation=float(np.std(found, ddof=1)),
                )  # fmt: skip
                rows.append(row)
                on_row(row)
    return rows

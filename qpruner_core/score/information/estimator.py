"""Interface of an estimator of mutual information, and common checks of its input."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from qpruner_core.errors import InvalidConfigError
from qpruner_core.score.config import ScoreConfig


class Estimator(Protocol):
    """An estimator of I(X; Y) from samples; deterministic for the same samples, settings and seed."""

    def __call__(
        self, hidden: NDArray[np.float32], labels: NDArray[np.int64], settings: ScoreConfig, seed: int
    ) -> float:
        """I(X; Y) in nats, at least 0, of vectors ``hidden [n, d]`` and ``labels [n]``.

        Raises:
            InvalidConfigError: there are too few samples for the settings.
        """
        ...


def require_positions(count: int, needed: int, field: str) -> None:
    """Raise :class:`InvalidConfigError` for the setting ``field`` if there are fewer than ``needed``."""
    if count < needed:
        raise InvalidConfigError(
            f"The calibration text has {count} positions; this setting needs at least {needed}.",
            field=field,
            remedy="Choose a smaller value, or more score.calibration_sequences.",
        )


def merge_rare(labels: NDArray[np.int64], keep: int) -> NDArray[np.int64]:
    """``labels`` with all but the ``keep`` most frequent replaced by -1."""
    values, counts = np.unique(labels, return_counts=True)
    frequent = values[np.argsort(-counts, kind="stable")[:keep]]
    return np.where(np.isin(labels, frequent), labels, -1)


def at_least(labels: NDArray[np.int64], least: int) -> NDArray[np.int64]:
    """``labels`` renumbered, with the rarest merged into one (-1) so that each occurs at least ``least`` times."""
    _, numbers, counts = np.unique(labels, return_inverse=True, return_counts=True)
    rarest = np.argsort(counts, kind="stable")
    merged = int((counts < least).sum())
    while 0 < merged < len(counts) and counts[rarest[:merged]].sum() < least:
        merged += 1
    return np.where(np.isin(numbers, rarest[:merged]), -1, numbers)

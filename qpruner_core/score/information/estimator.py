"""What an estimator of mutual information is, and what all of them ask of their input."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from qpruner_core.errors import InvalidConfigError
from qpruner_core.score.config import ScoreConfig


class Estimator(Protocol):
    """A way to estimate I(X; Y) from samples; the same samples, settings and seed give the same value."""

    def __call__(
        self, hidden: NDArray[np.float32], labels: NDArray[np.int64], settings: ScoreConfig, seed: int
    ) -> float:
        """I(X; Y) in nats, at least 0, of vectors ``hidden [n, d]`` and ``labels [n]``.

        Raises:
            InvalidConfigError: there are too few samples for the settings.
        """
        ...


def require_positions(count: int, needed: int, field: str) -> None:
    """Raise :class:`InvalidConfigError` about the setting ``field`` if there are fewer than ``needed``."""
    if count < needed:
        raise InvalidConfigError(
            f"The calibration text has {count} positions; this setting wants {needed} or more.",
            field=field,
            remedy="Choose a smaller value, or more score.calibration_sequences.",
        )


def merge_rare(labels: NDArray[np.int64], keep: int) -> NDArray[np.int64]:
    """``labels`` with all but the ``keep`` most frequent replaced by -1."""
    values, counts = np.unique(labels, return_counts=True)
    frequent = values[np.argsort(-counts, kind="stable")[:keep]]
    return np.where(np.isin(labels, frequent), labels, -1)


def at_least(labels: NDArray[np.int64], least: int) -> NDArray[np.int64]:
    """``labels`` numbered anew, the rarest of them made one (-1) so that each is there ``least`` times or more."""
    _, numbers, counts = np.unique(labels, return_inverse=True, return_counts=True)
    rarest = np.argsort(counts, kind="stable")
    merged = int((counts < least).sum())
    while 0 < merged < len(counts) and counts[rarest[:merged]].sum() < least:
        merged += 1
    return np.where(np.isin(numbers, rarest[:merged]), -1, numbers)

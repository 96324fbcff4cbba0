"""Prediction of the loss on all of the text from the loss on a little of it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from qpruner_core.search.trial import MeasuredTrial

_PAIRS = 4
"""Trials measured in full before any is stopped early."""
_SPREADS = 3.0
_LEAST_SPREAD = 0.05


@dataclass(frozen=True)
class Screening:
    """The logarithm of full over screening loss has mean ``shift`` and standard deviation ``spread`` so far; ``best``:
    the least full loss."""

    pairs: int
    shift: float
    spread: float
    best: float

    @classmethod
    def of(cls, trials: Sequence[MeasuredTrial]) -> Screening:
        """From the trials that were measured in full."""
        full = [trial for trial in trials if not trial.stopped_early]
        ratios = [math.log((trial.loss + 1e-9) / (trial.screening_loss + 1e-9)) for trial in full]
        return cls(
            pairs=len(full),
            shift=float(np.mean(ratios)) if full else 0.0,
            spread=max(float(np.std(ratios)), _LEAST_SPREAD) if full else 1.0,
            best=min((trial.loss for trial in full), default=math.inf),
        )

    @property
    def variance(self) -> float:
        """Variance of the logarithm of a full loss that is estimated from screening."""
        return self.spread**2

    def stop_above(self) -> float:
        """The screening loss above which a full loss below the best is out of reach."""
        if self.pairs < _PAIRS:
            return math.inf
        return self.best * math.exp(_SPREADS * self.spread - self.shift)

    def in_full(self, trial: MeasuredTrial) -> float:
        """The full loss of ``trial``: measured, or estimated from its screening."""
        return trial.screening_loss * math.exp(self.shift) if trial.stopped_early else trial.loss

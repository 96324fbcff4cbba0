"""Learning-rate schedules as functions of the step alone, so that a run can resume anywhere."""

from __future__ import annotations

import math

from qpruner_core.finetune.config import FinetuneConfig


def learning_rate(settings: FinetuneConfig, step: int) -> float:
    """The learning rate of optimiser step ``step`` (from 0): linear warm-up, then ``settings.schedule``; never zero."""
    warmup = min(settings.warmup_steps, settings.steps // 2)
    if step < warmup:
        return settings.learning_rate * (step + 1) / (warmup + 1)
    done = (step - warmup) / max(settings.steps - warmup, 1)
    if settings.schedule == "cosine":
        return settings.learning_rate * 0.5 * (1 + math.cos(math.pi * done))
    return settings.learning_rate * (1 - done if settings.schedule == "linear" else 1.0)

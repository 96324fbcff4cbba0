"""What the search tried, and the best of it at every size."""

from __future__ import annotations

from collections.abc import Iterable

from qpruner_core.strict import StrictModel


class Trial(StrictModel):
    """One allocation: where it came from, bits of each group, bytes of the loaded model, and the KL divergence (nats
    per token) to the pruned 16-bit model without recovery."""

    index: int
    origin: str
    bits: tuple[int, ...]
    bytes: int
    loss: float


def pareto_front(trials: Iterable[Trial]) -> list[Trial]:
    """The trials that no other beats in both bytes and loss, by rising bytes."""
    front: list[Trial] = []
    for trial in sorted(trials, key=lambda trial: (trial.bytes, trial.loss, trial.index)):
        if not front or trial.loss < front[-1].loss:
            front.append(trial)
    return front

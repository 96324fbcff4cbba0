"""Proposals of the search, their measurements, and the recorded trials."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated, Protocol, TypeVar

from pydantic import AliasChoices, BeforeValidator, ConfigDict, Field

from qpruner_core.precision_names import precision_names
from qpruner_core.search.space import Allocation
from qpruner_core.strict import StrictModel


@dataclass(frozen=True)
class Proposal:
    """An allocation to measure. Proposals of one batch are independent, so several may be measured at once.

    ``sequences``: text to measure on, beginning with the first ``screening`` of it. If their mean loss is above
    ``stop_above``, the rest is skipped.
    """

    index: int
    origin: str
    precisions: Allocation
    bytes: int
    sequences: int
    screening: int
    stop_above: float = math.inf


@dataclass(frozen=True)
class TrialMeasurement:
    """The loss on the first ``sequences`` of the text, the loss on the screening part of it, and the seconds taken."""

    loss: float
    screening_loss: float
    sequences: int
    seconds: float


class MeasuredTrial(StrictModel):
    """One allocation: its origin, precisions of the groups, bytes of the loaded model, and the loss (nats per token)
    that the search minimises: the KL divergence to the pruned 16-bit model, or the loss after a brief recovery.

    A trial that was ``stopped_early`` has only a ``screening_loss``, on a little text, which was hopeless.
    """

    model_config = ConfigDict(populate_by_name=True)

    index: int
    origin: str
    precisions: Annotated[Allocation, BeforeValidator(precision_names)] = Field(
        validation_alias=AliasChoices("precisions", "bits")
    )
    bytes: int
    loss: float
    screening_loss: float
    stopped_early: bool = False


class Trial(MeasuredTrial):
    """A trial in ``allocation.json``.

    ``sequences``: number of sequences that the loss is averaged over; ``seconds``: time of the measurement.
    ``recovered_loss``: for finalists, the loss on held-back training text (nats per token) after a brief recovery.
    """

    sequences: int
    seconds: float
    recovered_loss: float | None = None


class _Figures(Protocol):
    """Candidates of the front."""

    @property
    def index(self) -> int: ...
    @property
    def bytes(self) -> int: ...
    @property
    def loss(self) -> float: ...
    @property
    def stopped_early(self) -> bool: ...


AnyTrial = TypeVar("AnyTrial", bound=_Figures)


def pareto_front(trials: Iterable[AnyTrial]) -> list[AnyTrial]:
    """The non-dominated trials in bytes and loss among those measured in full, by ascending bytes."""
    front: list[AnyTrial] = []
    for trial in sorted(trials, key=lambda trial: (trial.bytes, trial.loss, trial.index)):
        if not trial.stopped_early and (not front or trial.loss < front[-1].loss):
            front.append(trial)
    return front

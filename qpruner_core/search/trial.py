"""What the search asks for, what measuring gave, and what it keeps of it."""

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
    """An allocation to measure. It depends on no other that was asked with it, so several may be measured at once.

    ``sequences``: text to measure on, the first ``screening`` of it first. Where their mean loss is above
    ``stop_above``, the rest is not worth its time.
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
    """The loss on the first ``sequences`` of the text, that on the screening part of it, and the seconds it took."""

    loss: float
    screening_loss: float
    sequences: int
    seconds: float


class MeasuredTrial(StrictModel):
    """One allocation: where it came from, precisions of the groups, bytes of the loaded model, and the loss (nats per
    token) that the search goes by: the KL divergence to the pruned 16-bit model, or what is left after a brief
    recovery.

    A trial that was ``stopped_early`` has only its ``screening_loss``, on a little text, which was hopeless.
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
    """A trial as ``allocation.json`` has it.

    ``sequences``: how much text the loss is the mean over; ``seconds``: what measuring took. ``recovered_loss``: of
    finalists, the loss on text kept back from training (nats per token) after a brief recovery.
    """

    sequences: int
    seconds: float
    recovered_loss: float | None = None


class _Figures(Protocol):
    """What the front is drawn from."""

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
    """The trials measured in full that no other beats in both bytes and loss, by rising bytes."""
    front: list[AnyTrial] = []
    for trial in sorted(trials, key=lambda trial: (trial.bytes, trial.loss, trial.index)):
        if not trial.stopped_early and (not front or trial.loss < front[-1].loss):
            front.append(trial)
    return front

"""What a search and the machines that help it say to each other; how it travels is not known here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from qpruner_core.search.trial import Proposal, TrialMeasurement


@dataclass(frozen=True)
class Turn:
    """What is to be measured here next, by its index, if anything; and what others have measured since."""

    measure: int | None
    measured: Mapping[int, TrialMeasurement]


class TrialExchange(Protocol):
    """Where a search offers its proposals to other machines."""

    def offer(self, proposals: Sequence[Proposal], machine: str) -> None:
        """Let others measure ``proposals``, if their machine is alike."""

    def turn(self) -> Turn:
        """Take one of the proposals that nobody has taken."""

    def tell(self, index: int, measurement: TrialMeasurement) -> None:
        """What the proposal that was taken here gave."""


class TrialHelper(Protocol):
    """Where a machine that helps gets the proposals from."""

    def ready(self, machine: str) -> None:
        """Said once, before the model is loaded."""

    def next(self) -> Proposal:
        """The next proposal to measure, which is waited for."""

    def tell(self, index: int, measurement: TrialMeasurement) -> None:
        """What it gave."""

"""Messages between a search and the machines that help it, whatever carries them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from qpruner_core.search.trial import Proposal, TrialMeasurement


@dataclass(frozen=True)
class Turn:
    """Index of the trial to measure here next, if any, and the results of other machines since."""

    measure: int | None
    measured: Mapping[int, TrialMeasurement]


class TrialExchange(Protocol):
    """Where a search offers its proposals to other machines."""

    def offer(self, proposals: Sequence[Proposal], machine: str) -> None:
        """Let others measure ``proposals``, if their machine is alike."""

    def turn(self) -> Turn:
        """Take one of the proposals that nobody has taken."""

    def tell(self, index: int, measurement: TrialMeasurement) -> None:
        """Result of the proposal that was taken here."""


class TrialHelper(Protocol):
    """Where a machine that helps gets the proposals from."""

    def ready(self, machine: str) -> None:
        """Said once, before the model is loaded."""

    def next(self) -> Proposal:
        """The next proposal to measure, which is waited for."""

    def tell(self, index: int, measurement: TrialMeasurement) -> None:
        """Its result."""

"""A child's side of the exchange of trials: lines to its supervisor, and turns from it."""

from __future__ import annotations

import queue
from collections.abc import Callable, Sequence

from pydantic import BaseModel

from qpruner_core.search.exchange import Turn
from qpruner_core.search.trial import Proposal, TrialMeasurement
from worker.protocol import HelperReady, TrialLoss, TrialMeasured, TrialsOffered, TrialSpec, TrialTurn, TrialWanted

Tell = Callable[[BaseModel], None]


class _Lines:
    def __init__(self, tell: Tell, turns: queue.SimpleQueue[TrialTurn]) -> None:
        self._tell = tell
        self._turns = turns

    def tell(self, index: int, measurement: TrialMeasurement) -> None:
        """Result of a proposal that was taken here."""
        self._tell(TrialMeasured(index=index, loss=TrialLoss.of(measurement)))

    def _next_turn(self) -> TrialTurn:
        self._tell(TrialWanted())
        return self._turns.get()


class SharingLines(_Lines):
    """A :class:`qpruner_core.search.exchange.TrialExchange`."""

    def offer(self, proposals: Sequence[Proposal], machine: str) -> None:
        """Let others measure ``proposals``, if their machine is alike."""
        self._tell(TrialsOffered(machine=machine, trials=[TrialSpec.of(proposal) for proposal in proposals]))

    def turn(self) -> Turn:
        """Take one of the proposals that nobody has taken."""
        turn = self._next_turn()
        measured = {index: loss.measurement() for index, loss in turn.measured.items()}
        return Turn(turn.measure.index if turn.measure is not None else None, measured)


class HelperLines(_Lines):
    """A :class:`qpruner_core.search.exchange.TrialHelper`."""

    def ready(self, machine: str) -> None:
        """Said once, before the model is loaded."""
        self._tell(HelperReady(machine=machine))

    def next(self) -> Proposal:
        """The next proposal to measure; the supervisor ends this process when there will be none."""
        while (spec := self._next_turn().measure) is None:
            pass
        return spec.proposal()

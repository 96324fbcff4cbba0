from __future__ import annotations

import math

import pytest

from qpruner_core.allocate.objectives import HOPELESS, surviving
from qpruner_core.errors import DiskFullError, NotFiniteError, QPrunerError, TrainingDivergedError
from qpruner_core.search.trial import Proposal, TrialMeasurement

PROPOSAL = Proposal(index=3, origin="random", precisions=("nf4", "int8"), bytes=10, sequences=8, screening=2)


@pytest.mark.parametrize("error", [NotFiniteError, TrainingDivergedError])
def test_an_allocation_under_which_nothing_is_predicted_is_hopeless_and_measured(error: type[QPrunerError]) -> None:
    def measure(proposal: Proposal) -> TrialMeasurement:
        raise error("no numbers", remedy="none")

    measured = surviving(measure)(PROPOSAL)
    assert (measured.loss, measured.screening_loss, measured.sequences) == (HOPELESS, HOPELESS, 8)


def test_an_infinite_loss_is_hopeless_too_and_any_other_is_as_it_was() -> None:
    assert surviving(lambda proposal: TrialMeasurement(math.inf, 1.0, 8, 0.5))(PROPOSAL).loss == HOPELESS
    found = TrialMeasurement(0.25, 0.5, 8, 0.5)
    assert surviving(lambda proposal: found)(PROPOSAL) is found


def test_other_errors_end_the_run() -> None:
    def measure(proposal: Proposal) -> TrialMeasurement:
        raise DiskFullError("full", remedy="free some")

    with pytest.raises(DiskFullError):
        surviving(measure)(PROPOSAL)

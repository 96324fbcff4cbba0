"""The result of a search, as written by the allocate stage."""

from __future__ import annotations

from qpruner_core.search.trial import Trial
from qpruner_core.strict import StrictModel

ALLOCATION = "allocation.json"


class AllocationResult(StrictModel):
    """``allocation.json``: names of the groups, the chosen trial, every trial, and the Pareto front of bytes against
    loss."""

    groups: list[str]
    best: Trial
    trials: list[Trial]
    pareto_front: list[Trial]

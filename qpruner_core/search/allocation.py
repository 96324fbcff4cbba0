"""The result of a search, as the allocate stage writes it."""

from __future__ import annotations

from qpruner_core.search.trial import Trial
from qpruner_core.strict import StrictModel

ALLOCATION = "allocation.json"


class AllocationResult(StrictModel):
    """``allocation.json``: names of the groups that precisions are of, the chosen trial, every trial, and the Pareto
    front of bytes against loss."""

    groups: list[str]
    best: Trial
    trials: list[Trial]
    pareto_front: list[Trial]

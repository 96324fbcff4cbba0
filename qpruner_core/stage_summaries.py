"""Summaries of finished stages."""

from __future__ import annotations

import json
from typing import Any

from qpruner_core.events import StageName
from qpruner_core.report import Measurement, Pruning
from qpruner_core.search.allocation import ALLOCATION, AllocationResult
from qpruner_core.stage import StageContext
from qpruner_core.stage_store import STAGE_FILE


def summary_of(context: StageContext, stage: StageName) -> dict[str, Any]:
    """The summary of a finished stage."""
    summary: dict[str, Any] = json.loads((context.finished(stage) / STAGE_FILE).read_text())["summary"]
    return summary


def measurements_of(context: StageContext) -> list[Measurement]:
    """The measurements of the evaluate stage."""
    return [Measurement.model_validate(row) for row in summary_of(context, "evaluate")["measurements"]]


def pruning_of(context: StageContext) -> Pruning:
    """The pruning of the prune stage."""
    return Pruning.model_validate(summary_of(context, "prune"))


def allocation_of(context: StageContext) -> AllocationResult:
    """The allocation of the allocate stage."""
    return AllocationResult.model_validate_json((context.finished("allocate") / ALLOCATION).read_bytes())

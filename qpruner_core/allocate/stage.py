"""Stage 3: the precision of each layer."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from qpruner_core.allocate.memory_model import MemoryModel
from qpruner_core.allocate.search import AllocationSearch
from qpruner_core.allocate.space import SearchSpace
from qpruner_core.allocate.trial import Measurement, Proposal, Trial, pareto_front
from qpruner_core.events import TrialRecorded
from qpruner_core.models import load_model
from qpruner_core.quantize.precision_bank import PrecisionBank
from qpruner_core.resources import best_device, free_memory
from qpruner_core.score.divergence import Divergence
from qpruner_core.score.scores import Scores
from qpruner_core.score.stage import SCORES
from qpruner_core.stage import StageContext
from qpruner_core.strict import StrictModel

ALLOCATION = "allocation.json"


class AllocationResult(StrictModel):
    """``allocation.json``: names of the groups that bits are of, the chosen trial, every trial, and the Pareto front of
    bytes against loss."""

    groups: list[str]
    best: Trial
    trials: list[Trial]
    pareto_front: list[Trial]


def run(context: StageContext, output: Path) -> dict[str, Any]:
    """Write ``output/allocation.json``."""
    settings = context.config.allocate
    family = context.plan.family
    scores = Scores.model_validate_json((context.finished("score") / SCORES).read_bytes())
    model = load_model(context.finished("prune") / "model").to(best_device())
    memory = MemoryModel(model.config, family, context.config.quantize, settings)
    space = SearchSpace.of(memory, context.config.memory_budget)
    search = AllocationSearch(space, scores, settings, seed=context.config.seed)
    bank = PrecisionBank(
        model,
        memory.groups,
        double_quant=context.config.quantize.double_quant,
        capacity=free_memory(model.device) // 2,
        on_group=lambda done, total: context.progress(0.1 * done / total, "quantizing"),
    )
    calibration = context.data().calibration[: settings.calibration_sequences]
    divergence = Divergence(model, family, calibration, capacity=free_memory(model.device) // 4)

    def measure(proposal: Proposal) -> Measurement:
        started = time.perf_counter()
        bank.apply(proposal.bits)
        loss = screening_loss = divergence(states=bank.states(), sequences=proposal.screening)
        stopped = screening_loss > proposal.stop_above
        if not stopped and proposal.screening < proposal.sequences:
            loss = divergence(states=bank.states())
        measured = proposal.screening if stopped else proposal.sequences
        return Measurement(loss, screening_loss, measured, time.perf_counter() - started)

    def on_trial(trial: Trial) -> None:
        told = trial.model_dump(include={"index", "origin", "bytes", "loss", "screening_loss", "stopped_early"})
        context.tell(TrialRecorded(**told, bits=list(trial.bits)))
        most = settings.trials + settings.front_points
        context.progress(0.1 + 0.9 * (trial.index + 1) / most, f"trial {trial.index + 1}")

    trials = search.run(measure, on_trial)
    result = AllocationResult(
        groups=[group.name for group in memory.groups],
        best=search.best,
        trials=trials,
        pareto_front=pareto_front(trials),
    )
    (output / ALLOCATION).write_text(result.model_dump_json(indent=1) + "\n")
    return {"best": result.best.model_dump(mode="json"), "trials": len(trials)}

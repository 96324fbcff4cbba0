"""Stage 3: the precision of each layer."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from qpruner_core.allocate.objectives import FitsOfTrials, MeasureAll, RecoveredLoss, make_objective, remembered
from qpruner_core.allocate.sharing import help_out, machine_of, shared
from qpruner_core.allocate.trial_workers import TrialWorkers
from qpruner_core.events import TrialRecorded
from qpruner_core.mixed.groups import PrecisionGroup
from qpruner_core.mixed.memory_model import MemoryModel
from qpruner_core.models.model_config import CONFIG_FILE, read_config
from qpruner_core.search.allocation import ALLOCATION, AllocationResult
from qpruner_core.search.known_trials import KnownTrials
from qpruner_core.search.scores import SCORES, Scores
from qpruner_core.search.search import AllocationSearch
from qpruner_core.search.space import SearchSpace
from qpruner_core.search.stored_search import StoredSpace
from qpruner_core.search.trial import Trial, pareto_front
from qpruner_core.stage import StageContext


def run(context: StageContext, output: Path) -> dict[str, Any]:
    """Write ``output/allocation.json``."""
    settings = context.config.allocate
    family = context.plan.family
    scores = Scores.model_validate_json((context.finished("score") / SCORES).read_bytes())
    config = read_config(context.finished("prune") / "model" / CONFIG_FILE)
    memory = MemoryModel(config, family, context.plan.target)
    space = SearchSpace.of(memory, context.plan.memory_budget)
    search = AllocationSearch(space, scores, settings, seed=context.config.seed)
    known = KnownTrials.of(context.store, context.config)

    def on_trial(trial: Trial) -> None:
        told = trial.model_dump(include={"index", "origin", "bytes", "loss", "screening_loss", "stopped_early"})
        context.tell(TrialRecorded(**told, precisions=list(trial.precisions)))
        most = settings.trials + settings.front_points
        context.progress(0.1 + 0.8 * (trial.index + 1) / most, f"trial {trial.index + 1}")

    fits = FitsOfTrials(context, memory.groups, lambda done: context.progress(0.1 * done, "quantizing"))
    if context.helper is not None:
        context.helper.ready(machine_of(context))
        fits.make(search.reach)  # these came along
        help_out(fits.before(partial(map, make_objective(context, lambda done: None))), context.helper)
    fits.make(search.reach)
    with _measuring(context) as measure:
        trials = search.run(remembered(fits.before(measure), known), on_trial)
    best = search.best
    if settings.finalists > 1 and settings.objective == "divergence":
        trials = _compare_finalists(context, trials, memory.groups)
        best = min((trial for trial in trials if trial.recovered_loss is not None), key=_after_recovery)
    result = AllocationResult(
        groups=[group.name for group in memory.groups],
        best=best,
        trials=trials,
        pareto_front=pareto_front(trials),
    )
    (output / ALLOCATION).write_text(result.model_dump_json(indent=1) + "\n")
    return {
        "best": best.model_dump(mode="json"),
        "trials": len(trials),
        "objective": settings.objective,
        "space": StoredSpace.of(memory).model_dump(mode="json"),
    }


@contextmanager
def _measuring(context: StageContext) -> Iterator[MeasureAll]:
    """The function that measures trials: in this process, or in ``allocate.workers`` processes."""

    if context.config.allocate.workers == 1:
        measure = make_objective(context, lambda done: context.progress(0.1 * done, "quantizing"))
        yield partial(map, measure) if context.exchange is None else shared(measure, context.exchange, context)
        return
    with TrialWorkers(context) as workers:
        yield workers.measure


def _compare_finalists(context: StageContext, trials: Sequence[Trial], groups: Sequence[PrecisionGroup]) -> list[Trial]:
    """The best of ``trials`` within the budget, with their loss after a brief recovery."""
    fitting = [trial for trial in trials if not trial.stopped_early and trial.bytes <= context.plan.memory_budget]
    finalists = sorted(fitting, key=lambda trial: (trial.loss, trial.bytes, trial.index))
    finalists = finalists[: context.config.allocate.finalists]
    loss = RecoveredLoss(context, groups, lambda done: context.progress(0.9, "finalists"))
    recovered = {}
    for done, trial in enumerate(finalists):
        recovered[trial.index] = loss(trial.precisions)
        context.progress(0.9 + 0.1 * (done + 1) / len(finalists), f"finalist {done + 1} of {len(finalists)}")
    return [trial.model_copy(update={"recovered_loss": recovered.get(trial.index)}) for trial in trials]


def _after_recovery(trial: Trial) -> tuple[float, int, int]:
    assert trial.recovered_loss is not None
    return trial.recovered_loss, trial.bytes, trial.index

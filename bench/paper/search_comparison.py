"""Searches beside each other on one pruned model within the same bytes: how good an allocation each has found when."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from transformers import PreTrainedModel

from bench.paper.measured import window_losses
from bench.paper.methods import EVERYTHING, INFORMATION, OURS, QUANTIZING, TRIED, Setup
from bench.paper.rows import SearchRow, TrialPoint
from bench.paper.run import Cell, PaperRun, trial_points
from bench.paper.stages import FinishedStages, StageRunner
from qpruner_core.compute.choice import choose_compute
from qpruner_core.config import CompressionConfig
from qpruner_core.data import PreparedData
from qpruner_core.events import CancelToken, ignore_event
from qpruner_core.fitting.precision_bank import PrecisionBank, fitted_bank
from qpruner_core.mixed.groups import precision_groups
from qpruner_core.models import ModelSource, load_model
from qpruner_core.models.families import family_of
from qpruner_core.models.model_config import CONFIG_FILE, read_config
from qpruner_core.planning import make_plan
from qpruner_core.presets import PRESETS
from qpruner_core.resources import best_device
from qpruner_core.source_policy import SourcePolicy
from qpruner_core.stage import StageContext
from qpruner_core.stage_store import StageStore

SEARCH_OURS = "ours"
SEARCH_PAPER = "QPruner3"
_WINDOWS = 8
"""Of the first text, that the best allocations so far are measured on."""


@dataclass(frozen=True)
class Search:
    """A way to search; ``allocate`` and ``score``: settings that differ from ours; ``uses``: parts of the score stage
    that it needs."""

    name: str
    uses: tuple[str, ...]
    allocate: dict[str, Any] = field(default_factory=dict)
    score: dict[str, Any] = field(default_factory=dict)
    paper: bool = False

    @property
    def folder(self) -> str:
        """The name of the folder of its stages."""
        return f"search-{self.name.replace(' ', '-')}"


SEARCHES = (
    Search(SEARCH_OURS, EVERYTHING),
    Search(SEARCH_PAPER, TRIED, dict(PRESETS["qpruner3"]["allocate"]), paper=True),
    Search("plain Gaussian process", TRIED, {"prior": "none"}),
    Search("random", (QUANTIZING,), {"search": "random"}),
    Search("mutual information only", INFORMATION, {"search": "mutual_information"}),
    Search("Fisher knapsack only", EVERYTHING, {"search": "knapsack"}),
    Search("KL knapsack only", EVERYTHING, {"search": "knapsack"}, {"sensitivity": "divergence"}),
)
"""The first and the last five choose among the same allocations; the paper's knows layers at 4 or 8 bits."""


class SearchComparison:
    """The searches in ``cell``, where ours has been; ``setup``: of the run."""

    def __init__(self, run: PaperRun, setup: Setup, cell: Cell) -> None:
        self._run, self._setup, self._cell = run, setup, cell
        self._windows = next(iter(run.evaluation.texts.values()))[:_WINDOWS]

    def rows(self) -> list[SearchRow]:
        """A row a search, measured unless it was before."""
        return [row for search in SEARCHES if (row := self._row(search)) is not None]

    def _config(self, search: Search) -> CompressionConfig:
        amounts = self._run.amounts
        budget = self._run.budget(self._setup, OURS, self._cell.ratio, amounts.search_share)
        config = self._setup.config(OURS, self._cell.ratio, self._cell.seed, budget)
        changes = dict(search.allocate)
        if search.paper:
            changes |= {"trials": amounts.compared_trials, "recovery_steps": amounts.compared_steps}
        allocate = type(config.allocate).model_validate(config.allocate.model_dump() | changes)
        finetune = config.finetune.model_copy(update={"loss": "cross_entropy"}) if search.paper else config.finetune
        score = type(config.score).model_validate(config.score.model_dump() | search.score)
        return config.model_copy(update={"allocate": allocate, "score": score, "finetune": finetune})

    def _stages(self, search: Search) -> FinishedStages:
        return StageRunner(self._cell.folder).run(search.folder, self._config(search), "allocate")

    def _row(self, search: Search) -> SearchRow | None:
        config = self._config(search)
        row = self._run.rows.find(SearchRow, search.name, config=self._run.key(config))
        if row is None and self._run.collecting:
            return None
        if row is None:
            stages = self._stages(search)
            fitting = self._fitting() if QUANTIZING in search.uses else 0.0
            scoring = stages.parts("score", [part for part in search.uses if part != QUANTIZING]) + fitting
            trials = trial_points(stages, scoring)
            row = SearchRow(
                name=search.name, config=self._run.key(config), objective=config.allocate.objective, scoring=scoring,
                seconds=scoring + stages.seconds("allocate"), trials=trials,
                quantizing=fitting + stages.parts("allocate", (QUANTIZING,)),
                best=self._perplexities(stages, config, trials),
            )  # fmt: skip
            self._run.rows.keep(row.name, row)
            found = row.best[-1][1]
            print(f"search by {row.name}: {row.seconds:.0f} s, perplexity {found:.2f} before recovery", flush=True)
        return row

    def _fitting(self) -> float:
        """Seconds in which modules were fitted at their precisions: ours comes first, and the others find its files."""
        return self._stages(SEARCHES[0]).parts("score", (QUANTIZING,))

    def _perplexities(
        self, stages: FinishedStages, config: CompressionConfig, trials: list[TrialPoint]
    ) -> list[tuple[int, float]]:
        model, bank = self._bank(stages, config)
        found = []
        for index in improvements(trials):
            bank.apply(trials[index].precisions)
            losses = window_losses(model, self._windows)
            found.append((index, math.exp(sum(losses) / len(losses))))
        return found

    def _bank(self, stages: FinishedStages, config: CompressionConfig) -> tuple[PreTrainedModel, PrecisionBank]:
        """The pruned model of ``stages``, and its modules at the values that its trials had."""
        return fitted_modules(stages, config, self._run.source)


def improvements(trials: Sequence[TrialPoint]) -> list[int]:
    """Indices of the trials that were the best so far when they ended; a trial that was stopped early never is."""
    found: list[int] = []
    for index, trial in enumerate(trials):
        if not trial.stopped_early and (not found or trial.loss < trials[found[-1]].loss):
            found.append(index)
    return found


def fitted_modules(
    stages: FinishedStages, config: CompressionConfig, source: ModelSource
) -> tuple[PreTrainedModel, PrecisionBank]:
    """The pruned model of ``stages``, of which the score stage is one, and its modules at the values that trials of
    ``config`` have; ``source``: the model before."""
    model = load_model(stages.work / "prune" / "model")
    plan = make_plan(config, read_config(source.directory / CONFIG_FILE))
    groups = precision_groups(model, family_of(model), plan.target)
    context = StageContext(
        stage="allocate", config=config, source=source, dataset_sha256="",
        plan=plan, data=_fitted_before,
        store=StageStore(stages.work), emit=ignore_event, cancel=CancelToken(),
        compute=choose_compute(config.compute_dtype, best_device(), SourcePolicy().cache_dir),
    )  # fmt: skip
    return model, fitted_bank(context, model, groups)


def _fitted_before() -> PreparedData:
    raise RuntimeError("The score stage has left no fits of some modules.")

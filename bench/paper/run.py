"""Measuring every method at every ratio with every seed; each row is on disk as soon as it exists."""

from __future__ import annotations

import gc
import hashlib
import json
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from bench.paper.amounts import Amounts
from bench.paper.budgets import part_way, without_limit
from bench.paper.measured import PaperEvaluation, computing_model, loaded_size
from bench.paper.methods import LLM_PRUNER, METHODS, QPRUNER3, Method, Setup
from bench.paper.rows import PaperRow, TrialPoint, TuningRow
from bench.paper.stages import FinishedStages, StageRunner
from bench.study.comparing import parameter_bytes
from bench.study.rows import RowFolder
from qpruner_core.config import CompressionConfig
from qpruner_core.events import StageName
from qpruner_core.mixed.memory_model import MemoryModel
from qpruner_core.mixed.mixed_model import read_mixed_config
from qpruner_core.models import ModelSource, load_model
from qpruner_core.sizes import format_bytes
from qpruner_core.targets.registry import bind_target

DENSE = "dense"
_STAGES: tuple[StageName, ...] = ("prune", "score", "allocate", "quantize", "finetune")


@dataclass(frozen=True)
class Cell:
    """The runs at one ratio with one seed, which share stages; ``folder``: gone when all of its rows exist."""

    ratio: float
    seed: int
    folder: Path


class PaperRun:
    """Rows of the model ``source`` with training text ``text``, measured unless ``work`` has them; ``collecting``: only
    those that it has."""

    def __init__(
        self, reference: str, source: ModelSource, text: Path, amounts: Amounts, evaluation: PaperEvaluation,
        work: Path, *, collecting: bool = False,
    ) -> None:  # fmt: skip
        self.collecting = collecting
        self.amounts = amounts
        self.evaluation = evaluation
        self.rows = RowFolder(work / "rows")
        self.source = source
        self._setup = Setup(reference, text, amounts, amounts.learning_rates[0])
        self._text_digest = hashlib.sha256(text.read_bytes()).hexdigest()
        self._work = work

    # -- what is compared

    def setup(self, learning_rate: float) -> Setup:
        """The setup with the learning rate in force."""
        return Setup(self._setup.model, self._setup.text, self.amounts, learning_rate)

    def budget(self, setup: Setup, method: Method, ratio: float, share: float = 0.5) -> int:
        """The bytes that ``method`` is asked for at ``ratio``; ``share``: see :func:`part_way`."""
        free = without_limit(setup.model)
        return part_way(setup.config(QPRUNER3, ratio, 0, free), ratio, share) if method.in_budget else free

    def cell(self, ratio: float, seed: int) -> Cell:
        """Where the runs at ``ratio`` with ``seed`` are."""
        return Cell(ratio, seed, self._work / f"cell-{ratio}-{seed}")

    def cells(self) -> Iterator[Cell]:
        """All ratios with the first seed come first: a run that is ended early has measured every method."""
        return (self.cell(ratio, seed) for seed in range(self.amounts.seeds) for ratio in self.amounts.ratios)

    def key(self, config: CompressionConfig) -> str:
        """Digest of all that a row of ``config`` follows from; where the model and the text lie does not matter."""
        settings = config.model_dump(mode="json", exclude={"model", "dataset"})
        parts = json.dumps([settings, self.source.digest, self._text_digest], sort_keys=True)
        return hashlib.sha256(parts.encode()).hexdigest()

    # -- measuring

    def tune(self) -> list[TuningRow]:
        """The baseline's recovery with each learning rate, at the first ratio; empty if there is but one."""
        if len(self.amounts.learning_rates) == 1:
            return []
        found = []
        cell = self.cell(self.amounts.ratios[0], 0)
        for rate in self.amounts.learning_rates:
            setup = self.setup(rate)
            config = setup.config(LLM_PRUNER, cell.ratio, 0, self.budget(setup, LLM_PRUNER, cell.ratio))
            row = self.rows.find(TuningRow, tuning_name(rate), config=self.key(config))
            if row is None and self.collecting:
                continue
            if row is None:
                stages = StageRunner(cell.folder).run(tuning_name(rate), config, "finetune")
                row = TuningRow(
                    name=tuning_name(rate), config=self.key(config), learning_rate=rate,
                    validation=stages.records["finetune"].summary["validation"],
                )  # fmt: skip
                self.rows.keep(row.name, row)
            print(f"learning rate {rate:g}: held-back loss {row.lowest:.4f} nats", flush=True)
            found.append(row)
        return found

    def dense(self) -> PaperRow:
        """The row of the model as it is."""
        digest = self.source.digest
        row = self.rows.find(PaperRow, f"{DENSE}-0.0-0", config=digest)
        if row is None:
            model = load_model(self.source.directory)
            size = parameter_bytes(model)
            losses, measures = self.evaluation.measure(model)
            row = PaperRow(
                method=DENSE, config=digest, ratio=0.0, seed=0, removed=0.0, budget=size, bytes=size,
                window_losses=losses, measures=measures,
            )  # fmt: skip
            self.rows.keep(row.name, row)
        return row

    def cell_rows(self, setup: Setup, cell: Cell) -> list[PaperRow]:
        """The rows of ``cell``."""
        rows = [self._row(setup, cell, method) for method in methods_of(self.amounts, cell.seed)]
        return [row for row in rows if row is not None]

    def _row(self, setup: Setup, cell: Cell, method: Method) -> PaperRow | None:
        budget = self.budget(setup, method, cell.ratio)
        config = setup.config(method, cell.ratio, cell.seed, budget)
        row = self.rows.find(PaperRow, row_name(method, cell), config=self.key(config))
        if row is not None or self.collecting:
            return row
        started = time.perf_counter()
        stages = StageRunner(cell.folder).run(folder_of(method), config, "finetune")
        row = self._measured(stages, config, method, cell)
        self.rows.keep(row.name, row)
        gc.collect()
        print(f"{_line(row)}, {time.perf_counter() - started:.0f} s", flush=True)
        return row

    def _measured(self, stages: FinishedStages, config: CompressionConfig, method: Method, cell: Cell) -> PaperRow:
        quantized, adapter = stages.work / "quantize" / "model", stages.work / "finetune" / "adapter"
        summary = stages.records["finetune"].summary
        losses, measures = self.evaluation.measure(computing_model(quantized, adapter))
        scoring = stages.parts("score", method.uses)
        pruned, _, family = read_mixed_config(quantized)
        space = MemoryModel(pruned, family, bind_target(config.target, config.quantize, config.allocate))
        best = stages.allocation.best.precisions
        return PaperRow(
            method=method.name, config=self.key(config), ratio=cell.ratio, seed=cell.seed,
            removed=float(stages.records["prune"].summary["removed_fraction"]),
            budget=config.memory_budget, bytes=loaded_size(quantized, adapter),
            groups=[group.name for group in space.groups], layers=[group.layer for group in space.groups],
            group_bytes=[space.group(index, option) for index, option in enumerate(best)], precisions=list(best),
            seconds={stage: stages.seconds(stage) for stage in _STAGES},
            search_seconds=scoring + stages.seconds("allocate"),
            teacher=summary["loss"] == "distillation", loss=summary["loss"],
            validation=summary["validation"], trials=trial_points(stages, scoring),
            window_losses=losses, measures=measures,
        )  # fmt: skip


def trial_points(stages: FinishedStages, scoring: float) -> list[TrialPoint]:
    """The trials of a search with the seconds at which each ended, behind ``scoring``."""
    ends = stages.ends("allocate")
    last = stages.seconds("allocate")
    return [
        TrialPoint(
            origin=trial.origin, precisions=trial.precisions, bytes=trial.bytes, loss=trial.loss,
            stopped_early=trial.stopped_early, second=scoring + ends.get(f"trial {trial.index + 1}", last),
        )
        for trial in stages.allocation.trials
    ]  # fmt: skip


def tuning_name(learning_rate: float) -> str:
    """The name of the row of the baseline's recovery with that rate."""
    return f"tuning-{learning_rate:g}"


def row_name(method: Method, cell: Cell) -> str:
    """The name of the row of ``method`` in ``cell``."""
    return f"{method.name}-{cell.ratio}-{cell.seed}"


def methods_of(amounts: Amounts, seed: int) -> list[Method]:
    """Those that are measured with ``seed``."""
    return [method for method in METHODS if seed == 0 or method.name in amounts.repeated]


def folder_of(method: Method) -> str:
    """The name of the folder of its stages."""
    return re.sub(r"[^a-z0-9]+", "-", method.name.lower())


def _line(row: PaperRow) -> str:
    text, measures = next(iter(row.measures.items()))
    return (
        f"{row.method} at {row.ratio:.0%}, seed {row.seed}: {format_bytes(row.bytes)}, "
        f"perplexity {measures['perplexity']:.2f} on {text}"
    )

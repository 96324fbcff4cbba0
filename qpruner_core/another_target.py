"""A checkpoint for another target from a finished run: its recovered weights are rounded again and measured."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from transformers import PretrainedConfig, PreTrainedModel

from qpruner_core.adapters import attach_adapter
from qpruner_core.config import CompressionConfig, parse_config
from qpruner_core.data import read_dataset
from qpruner_core.errors import BudgetInfeasibleError, DatasetInvalidError, InvalidConfigError, OutputInvalidError
from qpruner_core.events import STAGES, CancelToken, EventCallback, FileRecord, StageName, ignore_event
from qpruner_core.export.config import RECIPE
from qpruner_core.mixed.mixed_model import load_mixed_model
from qpruner_core.models.checkpoint_writer import write_model
from qpruner_core.models.families import find_family
from qpruner_core.models.model_config import CONFIG_FILE, read_config
from qpruner_core.pipeline import RunOptions, run_stages
from qpruner_core.planner import Planner
from qpruner_core.report import CompressionReport, Pruning
from qpruner_core.run_paths import WORK_SUFFIX
from qpruner_core.sizes import format_bytes
from qpruner_core.source_policy import SourcePolicy
from qpruner_core.stage import RunPlan
from qpruner_core.stage_store import STAGE_FILE, StageRecord, StageStore, list_files
from qpruner_core.targets.config import DEFAULT_RUNS_ON, RunsOn, TargetName

_ONE_TRIAL: dict[str, Any] = {
    "search": "knapsack", "objective": "divergence", "prior": "additive", "precisions": [], "finalists": 0,
    "front_points": 0, "batch": 1, "workers": 1,
}  # fmt: skip
"""Settings of the search: the exact knapsack over the cost of each precision."""


def export_run(
    directory: str | Path,
    *,
    target: TargetName,
    output: str | Path | None = None,
    memory_budget: int | None = None,
    runs_on: RunsOn | None = None,
    policy: SourcePolicy | None = None,
    on_event: EventCallback = ignore_event,
    cancel: CancelToken | None = None,
) -> CompressionReport:
    """Make the checkpoint of another ``target`` from a finished run, without another pruning or recovery.

    Reused are the recipe's settings, the pruned shape, and the recovered weights, which replace the pruned model
    (weights of quantized modules are de-quantized and include the recovery). The stages then run again: they measure
    what each of the target's precisions costs each group, solve the exact knapsack within the budget, round with error
    feedback on the run's calibration text, write the checkpoint, and measure it as read back. The dataset is read and
    prepared again. In the table, ``pruned`` is the recovered model in 16 bits.

    Args:
        directory: output directory of the run; its work directory is ``<directory>.work``.
        target: engine of the new checkpoint.
        output: directory of the new checkpoint; default ``<directory>-<target>``. Its stages are in ``<output>.work``,
            from which a second call resumes.
        memory_budget: bytes of the new weights; default: the budget or device of the run.
        runs_on: hardware of the engine; default: that of the run.

    Raises:
        InvalidConfigError: ``directory`` holds no finished run.
        OutputInvalidError: the output is the run's own directory.
        UnsupportedByTargetError: the engine cannot run a model of this shape, or its tokenizer.
        DatasetNotFoundError, DatasetInvalidError: the dataset is missing or has changed.
        BudgetInfeasibleError, and the errors of :func:`qpruner_core.compress`.
    """
    directory = Path(directory).resolve()
    output = Path(output or directory.with_name(f"{directory.name}-{target}")).resolve()
    if output == directory:
        raise OutputInvalidError(
            "The output is the run's own directory.", field="output", remedy="Choose another directory."
        )
    run = _FinishedRun(directory)
    config = run.config_for(target, memory_budget, runs_on)
    run.refuse_another_dataset(policy or SourcePolicy())
    store = StageStore(output.with_name(output.name + WORK_SUFFIX))

    def find_stage(stage: StageName, key: str) -> bool:
        if stage != "prune":
            return False
        with store.begin(stage) as partial:
            run.write_recovered(partial / "model")
            store.commit(stage, key, partial, run.pruning.model_dump(mode="json"), 0.0)
        return True

    options = RunOptions(
        policy=policy or SourcePolicy(),
        on_event=on_event,
        cancel=cancel or CancelToken(),
        find_stage=find_stage,
        plan=run.plan,
        origin=[run.key],
    )
    return run_stages(config, output, options)


class _FinishedRun:
    """A finished run: its result in ``directory``, its stages in the work directory beside it."""

    def __init__(self, directory: Path) -> None:
        self._work = directory.with_name(directory.name + WORK_SUFFIX)
        self._name = directory.name
        try:
            recipe = json.loads((directory / RECIPE).read_bytes())
            records = {stage: self._record(stage) for stage in STAGES}
            written = [FileRecord.model_validate(file) for file in recipe["files"]]
            self._recipe = recipe
            self._config = parse_config(recipe["config"])
            self.pruning = Pruning.model_validate(records["prune"].summary)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise self._unfinished(f"{getattr(error, 'filename', None) or directory} is missing or damaged") from error
        if written != records["export"].files:
            raise self._unfinished(f"the stages in {self._work} belong to another run than {directory}")
        for stage in ("prune", "quantize", "finetune"):
            if records[stage].files != list_files(self._work / stage):
                raise self._unfinished(f"files of {self._work / stage} are missing or have changed")
        self.key = records["finetune"].key
        self._pruned = read_config(self._work / "prune" / "model" / CONFIG_FILE)

    def config_for(
        self, target: TargetName, memory_budget: int | None, runs_on: RunsOn | None = None
    ) -> CompressionConfig:
        """Settings of the run for another ``target``."""
        values = self._config.model_dump(mode="json")
        values |= {"target": target, "export": {}}
        if runs_on is not None:
            values |= {"runs_on": runs_on}
        elif values["runs_on"] == "gpu+humming":
            values |= {"runs_on": DEFAULT_RUNS_ON}  # kernels of the run's own target
        if memory_budget is not None:
            values |= {"memory_budget": memory_budget, "fit": None}
        values["prune"] |= {"ratio": self.pruning.ratio}
        values["allocate"] |= _ONE_TRIAL
        values["quantize"] |= {"rounding": "error_feedback"}
        values["finetune"] |= {"steps": 0, "recovery": "auto"}
        return parse_config(values)

    def refuse_another_dataset(self, policy: SourcePolicy) -> None:
        """Raise if the dataset has changed: the result would be measured on text of another source."""
        if read_dataset(self._config.dataset, policy).sha256 != self._recipe["dataset"]["sha256"]:
            raise DatasetInvalidError(
                f"{self._config.dataset} has changed since {self._name} was made.",
                field="dataset",
                remedy="Restore the original file, or compress again.",
            )

    def plan(self, config: CompressionConfig, dense: PretrainedConfig) -> RunPlan:
        """The plan for the pruned model in its present shape.

        Raises:
            BudgetInfeasibleError, UnsupportedByTargetError.
        """
        planner = _AsPruned(config, dense, self._pruned)
        ratio = self.pruning.ratio
        planner.refuse_what_the_target_cannot(ratio)
        if not planner.meets(ratio):
            raise planner.infeasible()
        note = (
            f"Made from the recovered weights of {self._name}: nothing was pruned or recovered again. The row of "
            "the pruned model shows the recovered model in 16 bits."
        )
        return RunPlan(
            dense_config=dense, family=planner.family, ratio=ratio, prune=planner.prune, shape=None,
            target=planner.target, notes=(note,), memory_budget=planner.budget(ratio),
            device=planner.device(ratio),
        )  # fmt: skip

    def write_recovered(self, directory: Path) -> None:
        """Write the recovered model in 16 bits."""
        source = self._work / "finetune" / "model"
        if source.is_dir():  # recovered as a whole model
            model = load_mixed_model(source, dequantize=True)
        else:
            source = self._work / "quantize" / "model"
            quantized = load_mixed_model(source, dequantize=True)
            model = _merged(quantized, self._work / "finetune" / "adapter")
        write_model(model, find_family(self._pruned.model_type), directory, tokenizer_from=source)

    def _record(self, stage: StageName) -> StageRecord:
        try:
            return StageRecord.model_validate_json((self._work / stage / STAGE_FILE).read_bytes())
        except ValidationError as error:
            raise ValueError(f"{stage} was written by another release") from error

    def _unfinished(self, why: str) -> InvalidConfigError:
        return InvalidConfigError(
            f"{self._name} is not a finished run that another target's checkpoint can be made from: {why}.",
            field="directory",
            remedy=(
                "Name the output directory of `qpruner compress`, with its .work directory beside it, or run it again."
            ),
        )


class _AsPruned(Planner):
    """Plans for a model that is pruned already, whatever the settings would prune of the dense model."""

    def __init__(self, config: CompressionConfig, dense: PretrainedConfig, pruned: PretrainedConfig) -> None:
        super().__init__(config, dense, find_family(dense.model_type))
        self._config_as_pruned = pruned
        self.prune, self.notes = config.prune, ()

    @property
    def shape_is_known(self) -> bool:
        """Always true: the shape is fixed."""
        return True

    def infeasible(self) -> BudgetInfeasibleError:
        """The error that the pruned model exceeds the budget at the lowest precision; it carries the bytes needed."""
        if self.config.fit is not None:
            return super().infeasible()
        smallest, budget = self.smallest(0.0).total, self.budget(0.0)
        return BudgetInfeasibleError(
            f"The pruned model cannot meet {budget} bytes ({format_bytes(budget)}) for the target "
            f"{self.config.target}: it takes at least {smallest} bytes ({format_bytes(smallest)}).",
            smallest_feasible_bytes=smallest,
            remedy=f"Use at least {smallest} bytes, or compress again for that target, which may prune more.",
        )

    def _config_at(self, ratio: float) -> PretrainedConfig:
        return self._config_as_pruned


def _merged(model: PreTrainedModel, adapter: Path) -> PreTrainedModel:
    merged: PreTrainedModel = attach_adapter(model, adapter).merge_and_unload()
    return merged

"""The pipeline: seven stages in a row. Each reads the files of the stages before it and writes its own."""

from __future__ import annotations

import functools
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any, NoReturn

from transformers import PretrainedConfig

from qpruner_core.compute.choice import choose_compute
from qpruner_core.compute.products import products_in
from qpruner_core.config import CompressionConfig
from qpruner_core.data import PreparedData, prepare_data, read_dataset, require_known_tokens, tokens_of
from qpruner_core.errors import MemoryTooSmallError, NoHelpError
from qpruner_core.events import (
    STAGES,
    CancelToken,
    EventCallback,
    RunWarning,
    StageFinished,
    StageName,
    StageStarted,
    ignore_event,
)
from qpruner_core.expected_inputs import refuse_another_dataset, refuse_another_model
from qpruner_core.garbage import collector_paused, free_garbage_between_models, survivors_exempt_from_collection
from qpruner_core.models import ModelSource, inspect_model, load_tokenizer, resolve_model
from qpruner_core.models.reshape import bytes_in_16_bits
from qpruner_core.one_run import alone
from qpruner_core.output_directory import REPORT, OutputDirectory
from qpruner_core.planning import make_plan
from qpruner_core.randomness import seed_everything
from qpruner_core.report import CompressionReport
from qpruner_core.resources import best_device, total_memory
from qpruner_core.run_paths import check_run_paths
from qpruner_core.search.exchange import TrialExchange, TrialHelper
from qpruner_core.sizes import format_bytes
from qpruner_core.source_policy import SourcePolicy
from qpruner_core.speed.data_amounts import DataAmounts
from qpruner_core.speed.run_times import RunTimes
from qpruner_core.stage import RunPlan, StageContext
from qpruner_core.stage_keys import stage_keys
from qpruner_core.stage_store import StageFinder, StageRecord, StageStore, disk_full_as_error
from qpruner_core.training.loss_choice import loss_of_run
from qpruner_core.versions import recorded_versions

StageRun = Callable[[StageContext, Path], dict[str, Any]]


def load_stage(stage: StageName) -> StageRun:
    """Import the function ``run`` of a stage.

    It is imported when the stage begins, because its libraries (PEFT, bitsandbytes, scikit-optimize) take longer to
    import than torch. A resumed run skips the imports of finished stages, and a rejected run needs none of them.
    """
    with collector_paused():
        run: StageRun = import_module(f"qpruner_core.{stage}.stage").run
    return run


def compress(
    config: CompressionConfig,
    output: str | Path,
    *,
    work_dir: str | Path | None = None,
    policy: SourcePolicy | None = None,
    on_event: EventCallback = ignore_event,
    cancel: CancelToken | None = None,
    find_stage: StageFinder = lambda stage, key: False,
    exchange: TrialExchange | None = None,
) -> CompressionReport:
    """Compress a model to a memory budget.

    Args:
        config: model, dataset, budget and every setting.
        output: directory for the checkpoints (such as ``model.gguf`` or ``compressed-tensors/``), ``recipe.json``,
            ``report.json`` and the model card; created if missing. Files of an earlier run are replaced; no other file
            is touched.
        work_dir: directory of finished stages; default ``<output>.work``. A second call with the same directory
            resumes after the last finished stage. It can be deleted once the run is finished.
        policy: allowed sources of models and datasets.
        on_event: called with every event, in order, from this thread.
        cancel: set it from another thread to stop the run; finished stages are kept.
        find_stage: called with a stage and its key before a stage that ``work_dir`` lacks is computed. It may copy the
            files of an equal stage of another run there.
        exchange: where the search offers the trials of a batch to other machines; the result is the same.

    Raises:
        UserError: the model, dataset or budget is unusable; raised before any stage begins.
        MemoryTooSmallError: the model cannot be in memory whole; raised before any stage begins.
        CancelledError, DiskFullError, TrainingDivergedError, HubUnavailableError.

    A process computes one run at a time; calls from other threads wait.
    """
    options = RunOptions(
        work_dir=None if work_dir is None else Path(work_dir),
        policy=policy or SourcePolicy(),
        on_event=on_event,
        cancel=cancel or CancelToken(),
        find_stage=find_stage,
        exchange=exchange,
    )
    return run_stages(config, Path(output), options)


@dataclass(frozen=True)
class RunOptions:
    """Options of :func:`run_stages`; those of :func:`compress` and three more.

    Attributes:
        plan: makes the plan of the run from its config and the config of the dense model.
        origin: digests of other inputs of the stages that ``find_stage`` provides.
        helper: gives the trials of another machine's search to measure, which is all that the run is for.
    """

    work_dir: Path | None = None
    policy: SourcePolicy = field(default_factory=SourcePolicy)
    on_event: EventCallback = ignore_event
    cancel: CancelToken = field(default_factory=CancelToken)
    find_stage: StageFinder = lambda stage, key: False
    plan: Callable[[CompressionConfig, PretrainedConfig], RunPlan] = make_plan
    exchange: TrialExchange | None = None
    origin: Sequence[str] = ()
    helper: TrialHelper | None = None


def help_search(
    config: CompressionConfig, output: Path, *, work_dir: Path, policy: SourcePolicy, helper: TrialHelper
) -> NoReturn:
    """Measure trials of the search of another machine.

    The stages before its search must be finished in ``work_dir``. Ends when ``helper`` raises.

    Raises:
        NoHelpError: this machine would have made other stages.
    """
    run_stages(config, output, RunOptions(work_dir=work_dir, policy=policy, helper=helper))
    raise NoHelpError("The search is over.")


def run_stages(config: CompressionConfig, output: Path, options: RunOptions) -> CompressionReport:
    """:func:`compress` with ``options``, which may replace the plan of the run."""
    os.environ.setdefault(
        "CUBLAS_WORKSPACE_CONFIG", ":4096:8"
    )  # otherwise matrix products on a GPU differ from run to run
    with alone(options.cancel):
        return _run_stages(config, output, options)


def _run_stages(config: CompressionConfig, output: Path, options: RunOptions) -> CompressionReport:
    policy, on_event = options.policy, options.on_event
    paths = check_run_paths(output, options.work_dir, config, policy)
    inspected = inspect_model(config.model, policy).config
    plan = options.plan(config, inspected)  # before any large download
    store = StageStore(paths.work, options.find_stage)
    if not (options.helper or options.origin or store.directory("prune").exists()):  # it has been pruned elsewhere
        _require_memory(inspected)
    dataset = read_dataset(config.dataset, policy)
    refuse_another_dataset(config, dataset.sha256)
    source = resolve_model(config.model, policy)
    refuse_another_model(config, source.digest)
    if source.dense_config != inspected:
        plan = options.plan(config, source.dense_config)
    data = functools.cache(lambda: _prepare(config, source, dataset))
    data()  # a dataset that is too short fails here, before any stage
    times = RunTimes(config, plan, DataAmounts.of(data()), policy, store, on_event)
    refusal = plan.target.tokenizer_refusal(source.directory, source.dense_config.vocab_size)
    if refusal is not None:
        raise refusal
    warnings = [*plan.notes, *data().warnings]
    for warning in warnings:
        on_event(RunWarning(message=warning))
    records: dict[StageName, StageRecord] = {}
    compute = choose_compute(config.compute_dtype, best_device(), policy.cache_dir)
    keys_with = functools.partial(
        stage_keys, config, plan, data().digests,
        model=[source.digest, source.origin, *options.origin], versions=recorded_versions(), products=compute.products,
    )  # fmt: skip
    keys = keys_with()
    with products_in(compute.dtype, best_device()), survivors_exempt_from_collection():
        for stage in STAGES:
            context = StageContext(
                stage, config, source, dataset.sha256, plan, data, store, times, options.cancel, compute, warnings,
                options.exchange, options.helper,
            )  # fmt: skip
            if stage == "finetune":
                keys = keys_with(loss=loss_of_run(context, lambda loss: keys_with(loss=loss)["finetune"]))
            records[stage] = _run_stage(context, keys[stage], times.expected)
    return _finish(paths.output, context, records)


def _require_memory(dense: PretrainedConfig) -> None:
    """Reject a model that cannot be in memory whole, as pruning has it."""
    device = best_device()
    needed, total = bytes_in_16_bits(dense), total_memory(device)
    if needed > total:
        where = "the GPU" if device.type == "cuda" else "this machine"
        raise MemoryTooSmallError(
            f"The model takes {format_bytes(needed)} in 16 bits, but {where} has {format_bytes(total)} of memory.",
            field="model",
            remedy=f"Run it where at least {format_bytes(needed)} are free, or choose a smaller model.",
        )


def _prepare(config: CompressionConfig, source: ModelSource, dataset: Any) -> PreparedData:
    tokenizer = load_tokenizer(source.directory)
    data = prepare_data(
        dataset,
        tokenizer,
        sequence_length=config.sequence_length,
        calibration_sequences=max(
            config.prune.calibration_sequences,
            config.score.calibration_sequences,
            config.allocate.calibration_sequences,
        ),
        held_out_tokens=config.evaluate.max_tokens,
        max_choices=config.evaluate.max_choices,
        seed=config.seed,
        template_date=config.template_date,
    )
    require_known_tokens(tokens_of(data), source.dense_config.vocab_size, tokenizer)
    return data


def _run_stage(context: StageContext, key: str, expected: Mapping[StageName, float]) -> StageRecord:
    context.cancel.raise_if_cancelled()
    record = context.store.load(context.stage, key)
    resumed = record is not None
    if record is None and context.helper is not None and context.stage != "allocate":
        raise NoHelpError(f"The stage {context.stage} is not there as this machine would make it.")
    if record is None:
        free_garbage_between_models()  # those of the previous stage
        run = load_stage(context.stage)
        context.emit(_started(context.stage, expected))
        seed_everything(context.config.seed, context.stage)
        started, known = time.perf_counter(), len(context.warnings)
        with context.store.begin(context.stage) as partial:
            summary = run(context, partial)
            seconds = time.perf_counter() - started
            record = context.store.commit(context.stage, key, partial, summary, seconds, context.warnings[known:])
    else:
        for warning in record.warnings:
            context.warn(warning)
    context.emit(
        StageFinished(
            stage=context.stage,
            key=key,
            directory=str(context.store.directory(context.stage)),
            files=record.files,
            summary=record.summary,
            seconds=record.seconds,
            resumed=resumed,
        )
    )
    return record


def _started(stage: StageName, expected: Mapping[StageName, float]) -> StageStarted:
    if not expected:  # the machine's speed could not be measured
        return StageStarted(stage=stage)
    later = sum(expected[name] for name in STAGES[STAGES.index(stage) + 1 :])
    return StageStarted(stage=stage, expected_seconds=expected[stage], expected_later_seconds=later)


def _finish(output: OutputDirectory, context: StageContext, records: dict[StageName, StageRecord]) -> CompressionReport:
    """Put the result into ``output``."""
    from qpruner_core.result.handing_out import hand_out  # imported late, like a stage

    with disk_full_as_error(output.root), output.replacing() as partial:
        report = hand_out(context, records, partial)
        (partial / REPORT).write_text(report.model_dump_json(indent=2) + "\n")
    return report

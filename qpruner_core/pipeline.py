"""The pipeline: seven stages in a row, each from the files of those before it to files of its own."""

from __future__ import annotations

import functools
import gc
import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

import qpruner_core.allocate.stage
import qpruner_core.evaluate.stage
import qpruner_core.export.stage
import qpruner_core.finetune.stage
import qpruner_core.prune.stage
import qpruner_core.quantize.stage
import qpruner_core.score.stage
from qpruner_core.allocate.memory_model import MemoryModel
from qpruner_core.config import CompressionConfig
from qpruner_core.data import PreparedData, prepare_data, read_dataset
from qpruner_core.events import CancelToken, EventCallback, StageFinished, StageName, StageStarted, ignore_event
from qpruner_core.export.merged_quantized import MERGED_QUANTIZED
from qpruner_core.export.stage import MERGED, MIXED, allocation_of, evaluated, link_tree, pruning_of, recorded_versions
from qpruner_core.models import ModelSource, inspect_model, load_tokenizer, resolve_model
from qpruner_core.models.model_config import CONFIG_FILE, read_config
from qpruner_core.planning import make_plan
from qpruner_core.quantize.mixed_model import read_mixed_config
from qpruner_core.randomness import seed_everything
from qpruner_core.report import CompressionReport
from qpruner_core.source_policy import SourcePolicy
from qpruner_core.speed.data_amounts import DataAmounts
from qpruner_core.speed.run_times import RunTimes
from qpruner_core.stage import RunPlan, StageContext
from qpruner_core.stage_store import (
    STAGE_FILE,
    StageFinder,
    StageRecord,
    StageStore,
    disk_full_as_error,
    list_files,
)

REPORT = "report.json"
PIPELINE: tuple[tuple[StageName, Callable[[StageContext, Path], dict[str, Any]]], ...] = (
    ("prune", qpruner_core.prune.stage.run),
    ("score", qpruner_core.score.stage.run),
    ("allocate", qpruner_core.allocate.stage.run),
    ("quantize", qpruner_core.quantize.stage.run),
    ("finetune", qpruner_core.finetune.stage.run),
    ("evaluate", qpruner_core.evaluate.stage.run),
    ("export", qpruner_core.export.stage.run),
)


def compress(
    config: CompressionConfig,
    output: Path,
    *,
    work_dir: Path | None = None,
    policy: SourcePolicy | None = None,
    on_event: EventCallback = ignore_event,
    cancel: CancelToken | None = None,
    find_stage: StageFinder = lambda stage, key: False,
) -> CompressionReport:
    """Compress a model into a number of bytes.

    Args:
        config: model, dataset, budget and every setting.
        output: directory for the checkpoints (``mixed/``, ``merged/``), ``recipe.json``, ``report.json`` and the
            model card; made if missing, and what an earlier run left of these is replaced.
        work_dir: directory of finished stages, ``<output>.work`` if not given. A second call with the same goes on
            after the last finished stage; when all are finished it may be deleted.
        policy: what may be read, and from where.
        on_event: called with every event, in order, from this thread.
        cancel: set it from another thread to stop; finished stages stay.
        find_stage: asked, with its key, for each stage that ``work_dir`` lacks, before it is computed; may put the
            files of another run's equal stage there.

    Raises:
        UserError: the model, dataset or budget cannot be used as asked; raised before any stage begins.
        CancelledError, DiskFullError, TrainingDivergedError, HubUnavailableError.
    """
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # or matrix products on a GPU differ from run to run
    policy = policy or SourcePolicy()
    cancel = cancel or CancelToken()
    make_plan(config, inspect_model(config.model, policy).config)  # before anything large is fetched
    dataset = read_dataset(config.dataset, policy)
    source = resolve_model(config.model, policy)
    plan = make_plan(config, read_config(source.directory / CONFIG_FILE))
    data = functools.cache(lambda: _prepare(config, source, dataset))
    data()  # a dataset that is too short fails here, before any stage
    store = StageStore(work_dir or output.with_name(output.name + ".work"), find_stage)
    on_event = RunTimes(config, plan, DataAmounts.of(data()), policy, store, on_event)
    warnings = list(data().warnings)
    records: dict[StageName, StageRecord] = {}
    key = _base_key(config, source, plan, data().digest)
    for stage, run in PIPELINE:
        key = _stage_key(key, stage, config)
        context = StageContext(stage, config, source, dataset.sha256, plan, data, store, on_event, cancel, warnings)
        records[stage] = _run_stage(context, run, key)
    return _finish(output, context, records)


def _prepare(config: CompressionConfig, source: ModelSource, dataset: Any) -> PreparedData:
    return prepare_data(
        dataset,
        load_tokenizer(source.directory),
        sequence_length=config.sequence_length,
        calibration_sequences=max(
            config.prune.calibration_sequences,
            config.score.calibration_sequences,
            config.allocate.calibration_sequences,
        ),
        held_out_tokens=config.evaluate.max_tokens,
        max_choices=config.evaluate.max_choices,
        seed=config.seed,
    )


def _run_stage(context: StageContext, run: Callable[[StageContext, Path], dict[str, Any]], key: str) -> StageRecord:
    context.cancel.raise_if_cancelled()
    record = context.store.load(context.stage, key)
    resumed = record is not None
    if record is None:
        _free_stage_before()
        context.emit(StageStarted(stage=context.stage))
        seed_everything(context.config.seed, context.stage)
        started = time.perf_counter()
        with context.store.begin(context.stage) as partial:
            summary = run(context, partial)
            record = context.store.commit(context.stage, key, partial, summary, time.perf_counter() - started)
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


def _free_stage_before() -> None:
    """Give back the memory of the stage before: its models are in reference cycles with their hooks, which Python
    collects some time later, and torch keeps what they freed of a GPU."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def _base_key(config: CompressionConfig, source: ModelSource, plan: RunPlan, data_digest: str) -> str:
    return _digest(
        recorded_versions(), source.digest, source.origin, data_digest, config.seed, config.sequence_length, plan.ratio,
        _shape_key(config, plan),
    )  # fmt: skip


def _shape_key(config: CompressionConfig, plan: RunPlan) -> list[Any]:
    """The shape of the pruned model, or where the data decides on it, the budget that it must meet."""
    if plan.shape is not None:
        return [None if widths is None else widths.model_dump() for widths in plan.shape]
    allocate, quantize = config.allocate, config.quantize
    return [
        config.memory_budget, allocate.precisions, allocate.granularity, allocate.embeddings, quantize.lora_rank,
        quantize.double_quant, quantize.int8, config.score.calibration_sequences,
    ]  # fmt: skip


def _stage_key(previous: str, stage: StageName, config: CompressionConfig) -> str:
    """Digest of all that a stage's result follows from: the stages before it and its own settings."""
    settings: list[Any] = [getattr(config, stage).model_dump(mode="json")]
    if stage in ("score", "allocate"):
        allocate = config.allocate
        settings += [config.quantize.model_dump(), allocate.precisions, allocate.granularity, allocate.embeddings]
    if stage == "allocate":
        settings.append(config.memory_budget)
        if config.allocate.objective == "recovered" or config.allocate.finalists > 1:
            settings.append(config.finetune.model_dump(mode="json"))
    if stage == "evaluate" and MERGED_QUANTIZED in config.export.formats:
        settings.append(MERGED_QUANTIZED)  # made and measured there
    if stage == "export":
        settings.append(config.model_dump(mode="json"))  # the recipe says it all
    return _digest(previous, stage, settings)


def _digest(*parts: Any) -> str:
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def _finish(output: Path, context: StageContext, records: dict[StageName, StageRecord]) -> CompressionReport:
    """Put the exported files into ``output`` with the report beside them."""
    with disk_full_as_error(output):
        output.mkdir(parents=True, exist_ok=True)
        for name in (MIXED, MERGED, MERGED_QUANTIZED):
            shutil.rmtree(output / name, ignore_errors=True)
        exported = context.finished("export")
        for entry in sorted(exported.iterdir()):
            target = output / entry.name
            if entry.is_dir():
                link_tree(entry, target)
            elif entry.name != STAGE_FILE:
                shutil.copyfile(entry, target)
        report = _report(context, records, output)
        (output / REPORT).write_text(report.model_dump_json(indent=2) + "\n")
    return report


def _report(context: StageContext, records: dict[StageName, StageRecord], output: Path) -> CompressionReport:
    config, _, family = read_mixed_config(context.finished("quantize") / "model")
    memory = MemoryModel(config, family, context.config.quantize, context.config.allocate)
    allocation = allocation_of(context)
    return CompressionReport(
        model=context.config.model,
        revision=context.source.revision,
        dataset=context.config.dataset,
        memory_budget=context.config.memory_budget,
        seed=context.config.seed,
        prune_ratio=pruning_of(context).ratio,
        pruning=pruning_of(context),
        groups=allocation.groups,
        bits=list(allocation.best.bits),
        widths=[width.model_dump(exclude_defaults=True) for width in family.widths(config)],
        predicted_bytes=memory.total(allocation.best.bits),
        measurements=evaluated(context),
        stage_seconds={stage: record.seconds for stage, record in records.items()},
        warnings=context.warnings,
        files=[record for record in list_files(output) if record.path != REPORT],
    )

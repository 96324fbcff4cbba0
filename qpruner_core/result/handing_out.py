"""Collect the result of a finished run from its stages: checkpoints, recipe, model card and report."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from qpruner_core.adapters import largest_rank
from qpruner_core.events import StageName
from qpruner_core.export.config import CARD, RECIPE
from qpruner_core.formats.base import CheckpointFacts
from qpruner_core.formats.registry import load_format
from qpruner_core.mixed.groups import stored_by_group
from qpruner_core.mixed.memory_model import MemoryModel
from qpruner_core.mixed.mixed_model import read_mixed_config
from qpruner_core.mixed.recovered import recovered_model
from qpruner_core.models.reshape import runs_as_deci
from qpruner_core.models.shards import link_tree
from qpruner_core.report import CompressionReport, ExportedFormat
from qpruner_core.result.model_card import CompressedModel, model_card
from qpruner_core.result.recipe import recipe
from qpruner_core.stage import StageContext
from qpruner_core.stage_store import STAGE_FILE, StageRecord, list_files
from qpruner_core.stage_summaries import allocation_of, measurements_of, pruning_of


def hand_out(context: StageContext, records: Mapping[StageName, StageRecord], output: Path) -> CompressionReport:
    """Put checkpoints, recipe and card into the empty directory ``output``; returns the report without writing it.

    The card is placed beside the checkpoints and in those that are directories; recipe and hashes describe the files of
    the export stage. Everything but the report is deterministic.
    """
    exported = context.finished("export")
    link_tree(exported, output, but=(STAGE_FILE,))
    (output / RECIPE).write_text(json.dumps(recipe(context, list_files(exported)), indent=2, sort_keys=True) + "\n")
    facts = _facts(context)
    card = _card(context, facts)
    (output / CARD).write_text(card)
    for name in context.config.export.formats:
        if load_format(name).declaration.is_directory:
            (load_format(name).place(output) / CARD).write_text(card)
    return _report(context, records, output, facts)


def _facts(context: StageContext) -> CheckpointFacts:
    config, _, family = read_mixed_config(context.finished("quantize") / "model")
    adapter = recovered_model(context).adapter
    return CheckpointFacts(
        architecture=family.model_type.title(),
        own_code=config.model_type == family.pruned_model_type,
        dense_bytes=MemoryModel(config, family, context.plan.target).dense_bytes,
        adapter_rank=0 if adapter is None else largest_rank(adapter),
        runs_on=context.config.runs_on,
        deci=runs_as_deci(config),
    )


def _card(context: StageContext, facts: CheckpointFacts) -> str:
    config, precision, family = read_mixed_config(context.finished("quantize") / "model")
    groups = MemoryModel(config, family, context.plan.target).groups
    allocation = allocation_of(context)
    return model_card(
        CompressedModel(
            config=context.config,
            revision=context.source.revision,
            source=context.source.directory,
            memory_budget=context.plan.memory_budget,
            measurements=measurements_of(context),
            pruning=pruning_of(context),
            stored=dict(zip(allocation.groups, stored_by_group(groups, allocation.best.precisions), strict=True)),
            layer_precisions=precision.of_layers(family),
            widths=family.widths(config),
            facts=facts,
        )
    )


def _report(
    context: StageContext, records: Mapping[StageName, StageRecord], output: Path, facts: CheckpointFacts
) -> CompressionReport:
    config, _, family = read_mixed_config(context.finished("quantize") / "model")
    memory = MemoryModel(config, family, context.plan.target)
    allocation = allocation_of(context)
    return CompressionReport(
        model=context.config.model,
        revision=context.source.revision,
        dataset=context.config.dataset,
        memory_budget=context.plan.memory_budget,
        device=context.plan.device,
        seed=context.config.seed,
        compute=context.compute,
        prune_ratio=pruning_of(context).ratio,
        pruning=pruning_of(context),
        groups=allocation.groups,
        precisions=list(allocation.best.precisions),
        stored=stored_by_group(memory.groups, allocation.best.precisions),
        widths=[width.model_dump(exclude_defaults=True) for width in family.widths(config)],
        predicted_bytes=memory.total(allocation.best.precisions),
        measurements=measurements_of(context),
        exported=[_exported(name, context.finished("export"), facts) for name in context.config.export.formats],
        stage_seconds={stage: record.seconds for stage, record in records.items()},
        warnings=context.warnings,
        files=list_files(output),
    )


def _exported(name: str, directory: Path, facts: CheckpointFacts) -> ExportedFormat:
    kind = load_format(name)
    said = kind.declaration
    return ExportedFormat(
        name=name,
        title=said.title,
        path=said.place,
        artifact=said.artifact,
        bytes=kind.file_bytes(directory),
        snippets=kind.snippets(facts),
    )

"""Stage 7: checkpoints that load, and the recipe to make them again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

from qpruner_core.allocate.memory_model import MemoryModel
from qpruner_core.allocate.stage import ALLOCATION, AllocationResult
from qpruner_core.checkpoint import ADAPTER
from qpruner_core.events import StageName
from qpruner_core.export.config import CARD, MERGED, MERGED_QUANTIZED, MIXED, RECIPE
from qpruner_core.export.model_card import model_card
from qpruner_core.models.checkpoint import WEIGHT_FILE
from qpruner_core.models.checkpoint_writer import write_model
from qpruner_core.models.shards import copy_weights, link_or_copy
from qpruner_core.quantize.adapters import attach_adapter
from qpruner_core.quantize.mixed_model import load_mixed_model, read_mixed_config
from qpruner_core.report import Measurement, Pruning
from qpruner_core.resources import best_device
from qpruner_core.stage import StageContext
from qpruner_core.stage_store import STAGE_FILE, list_files
from qpruner_core.versions import recorded_versions


def run(context: StageContext, output: Path) -> dict[str, Any]:
    """Write the checkpoints asked for, ``recipe.json`` and the model card to ``output``."""
    quantized = context.finished("quantize") / "model"
    adapter = context.finished("finetune") / "adapter"
    config, precision, family = read_mixed_config(quantized)
    formats = context.config.export.formats
    shard = context.config.export.max_shard_size
    if "mixed" in formats:
        _copy_mixed(quantized, output / MIXED, shard)
        link_tree(adapter, output / MIXED / ADAPTER)
    context.progress(0.2, "merging")
    if MERGED_QUANTIZED in formats:
        _copy_mixed(context.finished("evaluate") / MERGED_QUANTIZED, output / MERGED_QUANTIZED, shard)
    if "merged" in formats:
        merged = attach_adapter(load_mixed_model(quantized, dequantize=True), adapter).merge_and_unload()
        write_model(merged, family, output / MERGED, tokenizer_from=quantized, max_shard_size=shard)
    context.progress(0.8, "writing the recipe")
    card = model_card(
        context.config,
        context.plan.memory_budget,
        evaluated(context),
        pruning_of(context),
        allocation_of(context),
        precision.of_layers(family),
        family.widths(config),
        merged_bytes=MemoryModel(config, family, context.config.quantize, context.config.allocate).dense_bytes,
        architecture=family.model_type.title(),
        own_code=config.model_type == family.pruned_model_type,
    )
    (output / CARD).write_text(card)
    for name in formats:
        (output / name / CARD).write_text(card)
    recipe = _recipe(context, output)
    (output / RECIPE).write_text(json.dumps(recipe, indent=2, sort_keys=True) + "\n")
    return {"formats": list(formats)}


def _copy_mixed(source: Path, target: Path, max_shard_size: int) -> None:
    link_tree(source, target, but=(WEIGHT_FILE,))
    copy_weights(source, target, max_shard_size)


def evaluated(context: StageContext) -> list[Measurement]:
    """What the evaluate stage measured."""
    return [Measurement.model_validate(row) for row in _summary(context, "evaluate")["measurements"]]


def pruning_of(context: StageContext) -> Pruning:
    """What the prune stage removed."""
    return Pruning.model_validate(_summary(context, "prune"))


def _summary(context: StageContext, stage: StageName) -> dict[str, Any]:
    summary: dict[str, Any] = json.loads((context.finished(stage) / STAGE_FILE).read_text())["summary"]
    return summary


def allocation_of(context: StageContext) -> AllocationResult:
    """What the allocate stage found."""
    return AllocationResult.model_validate_json((context.finished("allocate") / ALLOCATION).read_bytes())


def _recipe(context: StageContext, output: Path) -> dict[str, Any]:
    """Everything that the checkpoints follow from. Times and speeds are left out: they differ from run to run."""
    allocation = allocation_of(context)
    return {
        "config": context.config.model_dump(mode="json"),
        "memory_budget": context.plan.memory_budget,
        "device": context.plan.device and context.plan.device.model_dump(mode="json"),
        "model": {"digest": context.source.digest, "revision": context.source.revision},
        "dataset": {"sha256": context.dataset_sha256, "tokens_digest": context.data().digest},
        "machine": {
            "device": best_device().type,
            "threads": torch.get_num_threads(),
            "compute_dtype": context.compute.products,
        },
        "recovery_loss": _summary(context, "finetune").get("loss"),  # of "auto", what was chosen by free memory
        "prune_ratio": pruning_of(context).ratio,
        "pruning": pruning_of(context).model_dump(mode="json"),
        "bits": dict(zip(allocation.groups, allocation.best.bits, strict=True)),
        "versions": recorded_versions(),
        "files": [record.model_dump() for record in list_files(output)],
    }


def link_tree(source: Path, target: Path, *, but: tuple[str, ...] = ()) -> None:
    """Copy a directory, ``but`` files of these names; weights by hard links where the file system allows."""
    for path in sorted(source.rglob("*")):
        if path.is_file() and path.name not in but:
            destination = target / path.relative_to(source)
            destination.parent.mkdir(parents=True, exist_ok=True)
            link_or_copy(path, destination)

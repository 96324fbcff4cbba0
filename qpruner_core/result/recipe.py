"""``recipe.json``: everything needed to reproduce the checkpoints."""

from __future__ import annotations

from typing import Any

import torch

from qpruner_core.events import FileRecord
from qpruner_core.mixed.mixed_model import read_mixed_config
from qpruner_core.resources import best_device
from qpruner_core.stage import StageContext
from qpruner_core.stage_summaries import allocation_of, pruning_of, summary_of
from qpruner_core.versions import recorded_versions


def recipe(context: StageContext, files: list[FileRecord]) -> dict[str, Any]:
    """All inputs of ``files``. Times and speeds are left out: they differ from run to run."""
    allocation, pruning = allocation_of(context), pruning_of(context)
    _, stored, _ = read_mixed_config(context.finished("quantize") / "model")
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
        "recovery_loss": summary_of(context, "finetune").get("loss"),  # of "auto", the choice by free memory
        "prune_ratio": pruning.ratio,
        "pruning": pruning.model_dump(mode="json"),
        "precisions": dict(zip(allocation.groups, allocation.best.precisions, strict=True)),  # as named by the search
        "stored": dict(sorted(stored.precisions.items())),  # each module as stored by the engine
        "versions": recorded_versions(),
        "files": [record.model_dump() for record in files],
    }

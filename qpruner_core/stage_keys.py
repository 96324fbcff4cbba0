"""The key of each stage: a digest of all inputs of its files, and of nothing else.

Keys form a chain, so that each covers the inputs of earlier stages. A setting belongs to the key of the first stage
that reads it: changing it leaves earlier stages unchanged.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from typing import Any

from qpruner_core.config import CompressionConfig
from qpruner_core.data import DataDigests
from qpruner_core.events import STAGES, StageName
from qpruner_core.stage import RunPlan


def stage_keys(
    config: CompressionConfig, plan: RunPlan, data: DataDigests, *, model: Any, versions: Any, products: str,
    loss: str | None = None,
) -> dict[StageName, str]:  # fmt: skip
    """The key of every stage.

    ``model``: what tells the dense model; ``versions``: of the software; ``products``: the type of matrix products. All
    as JSON values. ``loss``: that of recovery, if it trains; "auto" leaves it open until the quantize stage is
    finished, whose key and those before do not depend on it. The text to calibrate on is a sample of the training text
    by seed and length.
    """
    key = _digest(versions, model, data.train, config.seed, config.sequence_length, plan.ratio, products)
    keys: dict[StageName, str] = {}
    for stage in STAGES:
        own = (plan.prune if stage == "prune" else getattr(config, stage)).model_dump(mode="json")
        if stage == "finetune":
            own["loss"] = loss
        key = keys[stage] = _digest(key, stage, own, list(_read_besides(stage, config, plan, data)))
    return keys


def _read_besides(stage: StageName, config: CompressionConfig, plan: RunPlan, data: DataDigests) -> Iterator[Any]:
    """Inputs of ``stage`` besides its own settings and the inputs of earlier stages."""
    allocate, quantize = config.allocate, config.quantize
    target = plan.target
    groups = [target.name, target.options, target.adapter_rank, allocate.granularity, allocate.embeddings]
    if stage == "prune":
        if plan.prune.compensation == "refit":
            yield "ridge by the amount of text"  # until 2026-11-29 it was fixed
        if plan.shape is not None:
            yield [None if widths is None else widths.model_dump() for widths in plan.shape]
        else:  # the shape depends on the data, within the budget
            yield [plan.memory_budget, groups, quantize.lora_rank, quantize.double_quant, quantize.int8]
        if plan.prune.ratio is None and plan.prune.ratio_choice == "measured":
            yield [config.score.calibration_sequences, config.score.fisher_samples, quantize.model_dump(mode="json")]
            yield data.probe
    elif stage == "score":
        yield [quantize.model_dump(mode="json"), groups, config.fitting_sequences]
    elif stage == "allocate":
        yield plan.memory_budget
        if allocate.objective == "recovered" or allocate.finalists > 1:
            yield config.finetune.model_dump(mode="json")
    elif stage == "quantize":
        yield data.probe
    elif stage == "export":
        yield config.model  # files name their origin
    elif stage == "evaluate":
        yield data.measured


def _digest(*parts: Any) -> str:
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()

"""The layers of a pruned model at every precision, as the run's quantize stage would write them, ready to swap."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from transformers import PreTrainedModel

from bench.paper.budgets import without_limit
from bench.paper.stages import FinishedStages, StageRunner
from qpruner_core.compute.choice import choose_compute
from qpruner_core.config import CompressionConfig, parse_config
from qpruner_core.data import PreparedData
from qpruner_core.events import CancelToken, ignore_event
from qpruner_core.fitting.precision_bank import PrecisionBank, fitted_bank
from qpruner_core.mixed.groups import precision_groups
from qpruner_core.models import ModelSource, load_model, resolve_model
from qpruner_core.models.families import family_of
from qpruner_core.models.model_config import CONFIG_FILE, read_config
from qpruner_core.planning import make_plan
from qpruner_core.quantize.config import QuantizeConfig
from qpruner_core.resources import best_device
from qpruner_core.source_policy import SourcePolicy
from qpruner_core.stage import StageContext
from qpruner_core.stage_store import StageStore


@dataclass(frozen=True)
class FittedLayers:
    """``model``, pruned as ``config`` says, and its layers in ``bank``, a group a layer. ``key``: digest of all that
    their values follow from."""

    config: CompressionConfig
    model: PreTrainedModel
    bank: PrecisionBank
    key: str


def fitted_layers(
    reference: str, ratio: float, documents: Sequence[str], precisions: Sequence[str], work: Path
) -> FittedLayers:
    """The model ``reference`` pruned by ``ratio`` and fitted at ``precisions`` with the product's defaults, calibrated
    on ``documents``; made in the folder ``work`` unless it has them.

    Raises as :func:`qpruner_core.pipeline.compress` does.
    """
    work.mkdir(parents=True, exist_ok=True)
    text = work / "text.jsonl"
    text.write_text("".join(json.dumps({"text": document}) + "\n" for document in documents), encoding="utf-8")
    config = parse_config(
        {
            "model": reference, "dataset": str(text.resolve()),
            "target": "bitsandbytes", "memory_budget": without_limit(reference),
            "prune": {"ratio": ratio},
            "allocate": {"granularity": "layer", "embeddings": False, "precisions": tuple(precisions)},
        }
    )  # fmt: skip
    stages = StageRunner(work).run("run", config, "score")  # the stage that fits them
    model, bank = fitted_modules(stages, config, resolve_model(reference, SourcePolicy()))
    return FittedLayers(config, model, bank, stages.records["score"].key)


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


def how_fitted(settings: QuantizeConfig) -> str:
    """What a page says of the modules that were measured."""
    return (
        f"as the quantize stage writes them, adapters included (`rounding: {settings.rounding}`, "
        f"`initialisation: {settings.initialisation}`, rank {settings.lora_rank})"
    )


def _fitted_before() -> PreparedData:
    raise RuntimeError("The score stage has left no fits of some modules.")

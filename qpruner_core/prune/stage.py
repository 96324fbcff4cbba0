"""Stage 1: the dense model becomes a smaller 16-bit model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from transformers import PretrainedConfig, PreTrainedModel

from qpruner_core.errors import BudgetInfeasibleError, InvalidConfigError
from qpruner_core.measure.memory import loaded_bytes
from qpruner_core.mixed.memory_model import MemoryModel
from qpruner_core.models import load_model
from qpruner_core.models.checkpoint_writer import write_model
from qpruner_core.prune.layer_sizes import LayerSizes
from qpruner_core.prune.layouts.ladder import attention_ladder
from qpruner_core.prune.pruning import PruningOptions, compensates, prune_to_ratio
from qpruner_core.prune.ratio_choice import choose_ratio, ratio_reason
from qpruner_core.report import Pruning, RatioTrial
from qpruner_core.resources import best_device
from qpruner_core.stage import StageContext

MODEL = "model"


def run(context: StageContext, output: Path) -> dict[str, Any]:
    """Write the pruned checkpoint to ``output/model``; the summary is a :class:`qpruner_core.report.Pruning`.

    Raises:
        BudgetInfeasibleError: after removal of the layers that the data selects, too little room is left.
    """
    plan, settings = context.plan, context.plan.prune
    context.progress(0.0, "loading the model")
    model = load_model(context.source.directory).to(best_device())
    before = LayerSizes.of(model.config, plan.family)
    sizes = model.num_parameters(), loaded_bytes(model)
    ratio = plan.ratio
    ratio_trials: list[RatioTrial] = []
    if settings.ratio is None and settings.ratio_choice == "measured":
        del model
        ratio_trials = choose_ratio(
            context,
            lambda: load_model(context.source.directory).to(best_device()),
            lambda config: _smallest(context, config) <= context.plan.memory_budget,
            lambda done, message: context.progress(0.05 + 0.6 * done, message),
        )
        ratio = min(ratio_trials, key=lambda trial: (trial.loss, trial.ratio)).ratio
        model = load_model(context.source.directory).to(best_device())
    pruned, after = _prune(context, model, ratio)
    del model
    summary = Pruning(
        ratio=ratio,
        removed_fraction=round(after.removed_fraction(), 6),
        criterion=settings.criterion,
        layout=settings.layout,
        compensation=settings.compensation if compensates(settings) else "none",
        width_multiple=settings.width_multiple if settings.layout != "depth" else None,
        removed_layers=sorted(set(before.indices) - set(after.indices)),
        parameters_before=sizes[0],
        parameters_after=pruned.num_parameters(),
        block_parameters_before=before.total,
        block_parameters_after=sum(
            tensor.numel() for layer in plan.family.decoder_layers(pruned) for tensor in layer.parameters()
        ),
        bytes_before=sizes[1],
        bytes_after=loaded_bytes(pruned),
        widths=[width.model_dump(exclude_defaults=True) for width in plan.family.widths(pruned.config)],
        ratio_reason=ratio_reason(settings, ratio, ratio_trials),
        ratio_trials=tuple(ratio_trials),
    )
    if ratio > 0:
        pruned.config.qpruner = {"pruned": context.source.origin | _what(summary)}
    context.progress(0.95, "writing the checkpoint")
    write_model(pruned, plan.family, output / MODEL, tokenizer_from=context.source.directory)
    return summary.model_dump(mode="json")


def _smallest(context: StageContext, config: PretrainedConfig) -> int:
    """Bytes of a model of ``config`` with everything at its lowest precision."""
    memory = MemoryModel(config, context.plan.family, context.plan.target)
    return memory.total(memory.lowest)


def _prune(context: StageContext, model: PreTrainedModel, ratio: float) -> tuple[PreTrainedModel, LayerSizes]:
    plan, settings = context.plan, context.plan.prune
    if ratio == 0:
        return model, LayerSizes.of(model.config, plan.family)
    _warn_if_attention_has_none(context, LayerSizes.of(model.config, plan.family))
    smallest = 0
    more_had_to_go = False

    def meets_budget(config: PretrainedConfig) -> bool:
        nonlocal smallest, more_had_to_go
        smallest = _smallest(context, config)
        more_had_to_go |= smallest > context.plan.memory_budget
        return smallest <= context.plan.memory_budget

    try:
        pruned, after = prune_to_ratio(
            model,
            plan.family,
            settings,
            ratio,
            context.data().calibration[: settings.calibration_sequences],
            PruningOptions(
                on_progress=lambda done, message: context.progress(0.05 + 0.85 * done, message),
                meets_budget=meets_budget if plan.shape is None else (lambda config: True),
                consume=True,
            ),
        )
    except InvalidConfigError as error:
        if smallest <= context.plan.memory_budget:
            raise
        raise BudgetInfeasibleError(
            f"With the layers that the calibration text selects, no model below {smallest} bytes is possible.",
            smallest_feasible_bytes=smallest,
            remedy="Use that budget, or another prune.layout.",
        ) from error
    if more_had_to_go and settings.ratio is not None:
        context.warn(
            f"prune.ratio is {settings.ratio:.2%} of the layers' parameters, but "
            f"{after.removed_fraction():.2%} were removed: otherwise the model would not have met "
            "memory_budget."
        )
    return pruned, after


def _warn_if_attention_has_none(context: StageContext, layer_sizes: LayerSizes) -> None:
    """Warn if ``prune.attention_unit`` cannot be removed from any layer of the model."""
    settings = context.plan.prune
    if settings.layout == "depth" or settings.attention_unit == "none":
        return
    if any(len(attention_ladder(layer_sizes, layer, settings).widths) > 1 for layer in range(len(layer_sizes.widths))):
        return
    only = {"query_head": "one query head in each group", "kv_group": "one key-value group in each layer"}
    context.warn(
        f"Nothing is removed from attention: prune.attention_unit is {settings.attention_unit}, and this model has "
        f"only {only[settings.attention_unit]}."
    )


def _what(summary: Pruning) -> dict[str, Any]:
    return summary.model_dump(
        mode="json",
        include={
            "ratio",
            "removed_fraction",
            "criterion",
            "layout",
            "compensation",
            "width_multiple",
            "removed_layers",
        },
    )

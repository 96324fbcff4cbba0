"""Stage 6: the table of before and after, measured on models as a user would load them."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel

from qpruner_core.checkpoint import load_mixed_checkpoint
from qpruner_core.errors import BudgetInfeasibleError
from qpruner_core.evaluate.choices import choice_accuracy
from qpruner_core.evaluate.memory import loaded_bytes
from qpruner_core.evaluate.perplexity import perplexity
from qpruner_core.evaluate.speed import tokens_per_second
from qpruner_core.events import StageName
from qpruner_core.export.config import MERGED_QUANTIZED
from qpruner_core.export.merged_quantized import write_merged_quantized
from qpruner_core.garbage import free_garbage
from qpruner_core.models import load_model
from qpruner_core.quantize.adapters import require_acting_adapter
from qpruner_core.quantize.groups import linear_names
from qpruner_core.quantize.mixed_model import MixedPrecision, encode, load_mixed_model, write_mixed_model
from qpruner_core.report import Measurement, Variant
from qpruner_core.resources import best_device
from qpruner_core.stage import StageContext

_PROMPT_TOKENS = 16


def run(context: StageContext, output: Path) -> dict[str, Any]:
    """Measure each variant; the result is only in the summary, but for ``output/merged_quantized``, a checkpoint that
    is handed out as it was measured.

    Raises:
        BudgetInfeasibleError: the loaded model is larger than the budget. The memory model rules that out; a
            checkpoint that breaks the promise must not be handed out.
    """
    pruned = context.finished("prune") / "model"
    loaders: list[tuple[Variant, Callable[[], nn.Module]]] = [
        ("dense", lambda: load_model(context.source.directory)),
        ("pruned", lambda: load_model(pruned)),
        ("pruned_nf4", lambda: _uniform_nf4(context, pruned, output / "nf4")),
        ("mixed", lambda: _with_adapter(context, "quantize")),
        ("final", lambda: _final(context)),
    ]
    if MERGED_QUANTIZED in context.config.export.formats:
        loaders.append(("merged_quantized", lambda: _merged_quantized(context, output / MERGED_QUANTIZED)))
    rows = []
    for index, (variant, load) in enumerate(loaders):
        rows.append(_measure(context, variant, load(), index / len(loaders), 1 / len(loaders)))
        free_garbage()
    final = next(row.bytes for row in rows if row.variant == "final")
    if final > context.plan.memory_budget:
        raise BudgetInfeasibleError(
            f"The loaded model takes {final} bytes, more than the budget of {context.plan.memory_budget}.",
            smallest_feasible_bytes=final,
            remedy="This is a fault of the memory model: please report it with the recipe.",
        )
    return {"measurements": [row.model_dump(mode="json") for row in rows]}


def _with_adapter(context: StageContext, stage: StageName) -> nn.Module:
    """The quantized model with the adapter that ``stage`` made."""
    quantized, adapter = context.finished("quantize") / "model", context.finished(stage) / "adapter"
    model: nn.Module = load_mixed_checkpoint(quantized, adapter, device=best_device())
    return model


def _final(context: StageContext) -> nn.Module:
    model = _with_adapter(context, "finetune")
    require_acting_adapter(model)
    return model


def _uniform_nf4(context: StageContext, pruned: Path, scratch: Path) -> PreTrainedModel:
    model = load_model(pruned)
    family = context.plan.family
    layers = range(len(family.decoder_layers(model)))
    bits = {name: 4 for layer in layers for name in linear_names(model, family, layer)}
    precision = MixedPrecision.of(bits, context.config.quantize)
    write_mixed_model(scratch, model.config, precision, encode(model, precision), family)
    try:
        return load_mixed_model(scratch, device=best_device())
    finally:
        shutil.rmtree(scratch)


def _merged_quantized(context: StageContext, directory: Path) -> PreTrainedModel:
    write_merged_quantized(context, directory)
    return load_mixed_model(directory, device=best_device())


def _measure(context: StageContext, variant: Variant, model: nn.Module, start: float, share: float) -> Measurement:
    settings = context.config.evaluate
    data = context.data()
    model = model.to(best_device())
    size = loaded_bytes(model)

    def on_window(done: int, total: int) -> None:
        context.progress(start + share * 0.7 * done / total, f"{variant}: perplexity")

    def on_example(done: int, total: int) -> None:
        context.progress(start + share * (0.7 + 0.2 * done / total), f"{variant}: choices")

    accuracy, error = choice_accuracy(model, data.choices, on_example) if data.choices else (None, None)
    return Measurement(
        variant=variant,
        parameters=logical_parameters(model),
        bytes=size,
        perplexity=perplexity(model, data.held_out, on_window),
        accuracy=accuracy,
        accuracy_stderr=error,
        tokens_per_second=tokens_per_second(
            model,
            data.held_out[0, : min(_PROMPT_TOKENS, data.held_out.shape[1])],
            settings.generated_tokens,
        ),
    )


def logical_parameters(model: nn.Module) -> int:
    """Number of weights that ``model`` stands for: a packed 4-bit matrix counts by its shape before packing, and a
    storage that several parameters share once."""
    counts = {}
    for parameter in model.parameters():
        state = getattr(parameter, "quant_state", None)
        weights = parameter.numel() if state is None else torch.Size(state.shape).numel()
        counts[parameter.untyped_storage().data_ptr()] = weights
    return sum(counts.values())

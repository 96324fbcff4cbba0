"""Stage 7: the before/after table. Exported checkpoints are read back from their files, as a user would load them."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from torch import nn
from transformers import PreTrainedModel

from qpruner_core.adapters import require_acting_adapter
from qpruner_core.errors import BudgetInfeasibleError
from qpruner_core.formats.base import ExportFormat
from qpruner_core.formats.declarations import FINAL, label_of
from qpruner_core.formats.registry import load_format
from qpruner_core.garbage import free_garbage
from qpruner_core.loading import load_mixed_checkpoint
from qpruner_core.measure.agreement import Comparison, DensePredictions
from qpruner_core.measure.choices import choice_accuracy
from qpruner_core.measure.memory import loaded_bytes
from qpruner_core.measure.perplexity import perplexity
from qpruner_core.measure.speed import EngineFailedError, Speed, tokens_per_second
from qpruner_core.mixed.groups import linear_names
from qpruner_core.mixed.mixed_model import MixedPrecision, encode, load_mixed_model, write_mixed_model
from qpruner_core.mixed.recovered import MixedCheckpoint, quantized_model, recovered_model
from qpruner_core.models import load_model
from qpruner_core.models.experts import separate_experts
from qpruner_core.report import Measurement
from qpruner_core.resources import best_device
from qpruner_core.stage import StageContext

_PROMPT_TOKENS = 16


@dataclass(frozen=True)
class _Row:
    """A model to measure: its loader, and its export format if any."""

    variant: str
    label: str
    load: Callable[[], nn.Module]
    format: ExportFormat | None = None


def run(context: StageContext, output: Path) -> dict[str, Any]:
    """Measure each variant; the result is only in the summary.

    Raises:
        BudgetInfeasibleError: the loaded model exceeds the budget. The memory model rules that out, but a checkpoint
            that breaks the promise must not be released.
    """
    rows = _rows(context, output)
    dense = DensePredictions()
    measured: list[Measurement] = []
    for index, row in enumerate(rows):
        if row.variant == "pruned" and _unchanged(context):
            measured.append(_as_dense(measured[0], row, dense))
            continue
        measured.append(_measure(context, row, dense, index / len(rows), 1 / len(rows)))
        free_garbage()
    final = next(row.bytes for row in measured if row.variant == FINAL)
    if final > context.plan.memory_budget:
        raise BudgetInfeasibleError(
            f"The loaded model takes {final} bytes, more than the budget of {context.plan.memory_budget}.",
            smallest_feasible_bytes=final,
            remedy="This is a bug in the memory model: please report it with the recipe.",
        )
    return {"measurements": [row.model_dump(mode="json") for row in measured]}


def _unchanged(context: StageContext) -> bool:
    """Whether the output of the prune stage equals the dense model weight for weight. It does not if recovered weights
    take its place."""
    if context.plan.ratio > 0:
        return False
    before, after = (load_model(one).state_dict() for one in (context.source.directory, _pruned_model(context)))
    return before.keys() == after.keys() and all(torch.equal(weight, after[name]) for name, weight in before.items())


def _pruned_model(context: StageContext) -> Path:
    return context.finished("prune") / "model"


def _as_dense(measured: Measurement, row: _Row, dense: DensePredictions) -> Measurement:
    """The row of a model that equals the dense one, which was ``measured``."""
    tokens = sum(len(reference) for reference, _ in dense.parts)
    same = {"divergence": 0.0, "top1_agreement": 1.0, "compared_tokens": tokens}
    return measured.model_copy(update={"variant": row.variant, "label": row.label, **same})


def _rows(context: StageContext, output: Path) -> list[_Row]:
    """The rows of the table in order: the dense model first, the reference of all others."""
    pruned = _pruned_model(context)
    ways: dict[str, Callable[[], nn.Module]] = {
        "dense": lambda: load_model(context.source.directory),
        "pruned": lambda: load_model(pruned),
    }
    if context.plan.target.name == "bitsandbytes":
        ways["pruned_nf4"] = lambda: _uniform_nf4(context, pruned, output / "nf4")
    if context.plan.target.adapter_rank or context.config.finetune.steps:
        ways["mixed"] = lambda: _loaded(quantized_model(context))
    rows = [_Row(variant, label_of(variant), load) for variant, load in ways.items()]
    formats = [load_format(name) for name in context.config.export.formats]
    exported = [_exported(context, kind) for kind in formats if not kind.declaration.beside]
    if not any(row.variant == FINAL for row in exported):
        rows.append(_Row(FINAL, label_of(FINAL), lambda: _final(context)))
    return rows + exported


def _main_format(context: StageContext) -> ExportFormat | None:
    """The target's own format; ``None`` if it was not requested."""
    formats = (load_format(name) for name in context.config.export.formats)
    return next((kind for kind in formats if kind.declaration.variant == FINAL), None)


def _file_bytes(context: StageContext, kind: ExportFormat) -> int:
    """Bytes of a row's files: those of the format and of formats beside it."""
    formats = (load_format(name) for name in context.config.export.formats)
    name, place = kind.declaration.name, context.finished("export")
    return sum(one.file_bytes(place) for one in formats if name in (one.declaration.name, one.declaration.beside))


def _exported(context: StageContext, kind: ExportFormat) -> _Row:
    said = kind.declaration
    return _Row(said.variant, said.label, lambda: kind.load(context.finished("export"), best_device()), kind)


def _loaded(checkpoint: MixedCheckpoint) -> nn.Module:
    model: nn.Module = load_mixed_checkpoint(*checkpoint, device=best_device())
    return model


def _final(context: StageContext) -> nn.Module:
    """The recovered model, for runs without an export format that is measured as such."""
    model = _loaded(recovered_model(context))
    if isinstance(model, PeftModel):
        require_acting_adapter(model)
    return model


def _uniform_nf4(context: StageContext, pruned: Path, scratch: Path) -> PreTrainedModel:
    model = separate_experts(load_model(pruned))
    family = context.plan.family
    layers = range(len(family.decoder_layers(model)))
    kinds = {name: "nf4" for layer in layers for name in linear_names(model, family, layer)}
    precision = MixedPrecision.of(kinds, context.config.quantize)
    write_mixed_model(scratch, model.config, precision, encode(model, precision), family)
    try:
        return load_mixed_model(scratch, device=best_device())
    finally:
        shutil.rmtree(scratch)


def _measure(context: StageContext, row: _Row, dense: DensePredictions, start: float, share: float) -> Measurement:
    """Measure one row. The predictions of the first are kept in ``dense``; all others are compared with them."""
    data = context.data()
    model = row.load().to(best_device())
    place = context.finished("export")
    comparison = Comparison(dense) if dense.parts else None

    def on_window(done: int, total: int) -> None:
        context.progress(start + share * 0.7 * done / total, f"{row.variant}: perplexity")

    def on_example(done: int, total: int) -> None:
        context.progress(start + share * (0.7 + 0.2 * done / total), f"{row.variant}: choices")

    size = loaded_bytes(model) if row.format is None else row.format.held_bytes(place, model)
    if row.variant == "mixed" and (main := _main_format(context)) is not None:
        size = main.held_bytes(place, model)  # same modules, precisions and adapter ranks
    accuracy, error = choice_accuracy(model, data.choices, on_example) if data.choices else (None, None)
    found = perplexity(model, data.held_out, on_window, dense.keep if comparison is None else comparison.add)
    agreement = None if comparison is None else comparison.result()
    speed = _speed(context, row, model)
    return Measurement(
        variant=row.variant,
        label=row.label,
        parameters=logical_parameters(model),
        bytes=size,
        file_bytes=None if row.format is None else _file_bytes(context, row.format),
        perplexity=found,
        divergence=agreement and agreement.divergence,
        top1_agreement=agreement and agreement.top1,
        compared_tokens=agreement and agreement.tokens,
        accuracy=accuracy,
        accuracy_stderr=error,
        tokens_per_second=speed.tokens_per_second,
        prefill_tokens_per_second=speed.prefill_tokens_per_second,
        speed_engine=speed.engine,
    )


def _speed(context: StageContext, row: _Row, model: nn.Module) -> Speed:
    """Speed in the row's engine if it is installed, else in torch."""
    new_tokens = context.config.evaluate.generated_tokens
    if row.format is not None:
        try:
            gpu = best_device().type != "cpu"
            found = row.format.engine_speed(
                context.finished("export"), new_tokens, gpu=gpu, look=context.cancel.raise_if_cancelled
            )
        except EngineFailedError as error:
            context.warn(f"The speed of {row.format.name} was measured in torch: {error}")
        else:
            if found is not None:
                return found
    prompt = context.data().held_out[0, :_PROMPT_TOKENS]
    return Speed(tokens_per_second(model, prompt, new_tokens), engine="torch")


def logical_parameters(model: nn.Module) -> int:
    """Number of weights that ``model`` stands for. A packed 4-bit matrix counts by its shape before packing; storage
    shared by several parameters counts once."""
    counts = {}
    for parameter in model.parameters():
        state = getattr(parameter, "quant_state", None)
        weights = parameter.numel() if state is None else torch.Size(state.shape).numel()
        counts[parameter.untyped_storage().data_ptr()] = weights
    return sum(counts.values())

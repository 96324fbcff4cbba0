"""Stage 4: quantizes each group to its precision, with adapters that compensate for the error."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from statistics import fmean
from typing import Any

from transformers import PreTrainedModel

from qpruner_core.adapters import adapter_name, write_adapter
from qpruner_core.fitting.fit_files import FitFiles, fit, scales_of, with_moments
from qpruner_core.fitting.fitted_linear import FittedLinear, module_seed
from qpruner_core.fitting.rank_allocation import allocate_ranks, rank_gains
from qpruner_core.forward.input_scales import InputScales
from qpruner_core.mixed.groups import embedding_names, is_of_expert, precision_by_module, precision_groups
from qpruner_core.mixed.mixed_model import MixedPrecision, other_tensors, write_mixed_model
from qpruner_core.mixed.pruned import load_pruned_model
from qpruner_core.models.checkpoint_writer import copy_tokenizer
from qpruner_core.models.families import linear_shape, linear_weight
from qpruner_core.precision_names import UNQUANTIZED
from qpruner_core.precisions import Tensors
from qpruner_core.quantize.output_error import OutputError, output_errors
from qpruner_core.search.allocation import ALLOCATION, AllocationResult
from qpruner_core.stage import StageContext

MODEL = "model"
ADAPTER = "adapter"
OUTPUT_ERRORS = "output_errors.json"


def run(context: StageContext, output: Path) -> dict[str, Any]:
    """Write the mixed-precision model and its adapters.

    ``output/model`` is the model, ``output/adapter`` the adapters if they ship, and ``output/output_errors.json`` the
    adapter rank of every linear module and its output error before and after.
    """
    target = context.plan.target
    settings = target.quantize
    family = context.plan.family
    result = AllocationResult.model_validate_json((context.finished("allocate") / ALLOCATION).read_bytes())
    model = load_pruned_model(context)
    kinds = precision_by_module(precision_groups(model, family, target), result.best.precisions)
    outside = {name: kinds.pop(name) for name in embedding_names(model).values() if name in kinds}
    outside = {name: kind for name, kind in outside.items() if kind != UNQUANTIZED}
    fits = FitFiles(context, model)
    fitted = _fit(context, model, fits, kinds, outside)
    errors = _measure(context, model, kinds, fitted)
    tensors, adapter = _tensors(fitted | {name: fits.read(name, kind) for name, kind in outside.items()}), Tensors()
    adapted = [name for name in fitted if not is_of_expert(name, family)]
    for name in adapted:
        linear = fitted[name]
        adapter |= {adapter_name(name, "A"): linear.a, adapter_name(name, "B"): linear.b}
    kinds |= outside
    tensors |= other_tensors(model, {f"{name}.weight" for name in kinds})
    precision = MixedPrecision.of(kinds, settings, adapters=target.adapter_rank > 0)
    write_mixed_model(output / MODEL, model.config, precision, tensors, family)
    copy_tokenizer(context.finished("prune") / "model", output / MODEL)
    if target.adapter_rank:
        write_adapter(output / ADAPTER, adapter, settings, family.adapted)
    rows = {
        name: {
            "precision": kinds[name],
            "rank": len(fitted[name].a) if target.adapter_rank and name in adapted else 0,
            "before": error.before,
            "after": error.after,
        }
        for name, error in errors.items()
    }
    (output / OUTPUT_ERRORS).write_text(json.dumps(rows, indent=1) + "\n")
    return {"groups": result.groups, "precisions": list(result.best.precisions), "output_error": _mean(errors, kinds)}


def _fit(
    context: StageContext, model: PreTrainedModel, fits: FitFiles, kinds: Mapping[str, str], outside: Mapping[str, str]
) -> dict[str, FittedLinear]:
    """Every linear module of the layers, fitted; fits of the search are read if their rank is the same. Tables
    ``outside`` the layers then have fits as well."""
    settings = context.plan.target.quantize
    scales = scales_of(context, model) if settings.rank_allocation != "uniform" else {}
    ranks = _ranks(context, model, kinds, scales)
    alike = [name for name in kinds if ranks.get(name, settings.lora_rank) == settings.lora_rank]
    fits.make(
        [*((name, kinds[name]) for name in alike), *outside.items()],
        lambda done, total: context.progress(0.3 + 0.5 * done / total, "quantizing"),
    )
    fitted = {name: fits.read(name, kinds[name]) for name in alike}
    others = {name: [kinds[name]] for name in kinds if name not in fitted}
    for names, moments in with_moments(context, model, others):
        for name in names:
            [fitted[name]] = fit(context, model, [(name, kinds[name])], scales, moments, rank=ranks[name])
            done = sum(other in fitted for other in others)
            context.progress(0.8 + 0.1 * done / len(others), f"{name}: rank {ranks[name]}")
    return {name: fitted[name] for name in kinds}


def _ranks(
    context: StageContext, model: PreTrainedModel, kinds: Mapping[str, str], scales: InputScales
) -> dict[str, int]:
    """Ranks by module if they differ; empty if all are equal."""
    settings = context.plan.target.quantize
    if settings.rank_allocation == "uniform":
        return {}
    gains: dict[str, list[float]] = {}
    adapted = {name: kind for name, kind in kinds.items() if not is_of_expert(name, context.plan.family)}
    for position, (name, kind) in enumerate(adapted.items()):
        weight, seed = linear_weight(model.get_submodule(name)), module_seed(context.config.seed, name)
        gains[name] = rank_gains(
            weight, context.plan.target.precisions[kind], scales[name], rank=settings.lora_rank, seed=seed
        )
        context.progress(0.2 + 0.1 * (position + 1) / len(adapted), "ranks")
    shapes = {name: linear_shape(model.get_submodule(name)) for name in gains}
    return allocate_ranks(gains, context.plan.target.adapter_shapes(model.config, shapes), settings.lora_rank)


def _measure(
    context: StageContext, model: PreTrainedModel, kinds: Mapping[str, str], fitted: Mapping[str, FittedLinear]
) -> dict[str, OutputError]:
    """Output error of every module on a little held-out text."""
    return output_errors(
        model,
        fitted,
        {name: context.plan.target.precisions[kind] for name, kind in kinds.items()},
        context.data().probe,
        lambda done, total: context.progress(0.9 + 0.1 * done / total, "error of the outputs"),
    )


def _tensors(fitted: Mapping[str, FittedLinear]) -> Tensors:
    """Stored tensors of the modules, under their names in a checkpoint."""
    return {f"{name}.{key}": value for name, linear in fitted.items() for key, value in linear.tensors.items()}


def _mean(errors: Mapping[str, OutputError], kinds: Mapping[str, str]) -> dict[str, float]:
    """Mean relative output error of the quantized linear modules, without and with adapter."""
    quantized = [error for name, error in errors.items() if kinds[name] != UNQUANTIZED]
    if not quantized:
        return {"before": 0.0, "after": 0.0}
    return {"before": fmean(error.before for error in quantized), "after": fmean(error.after for error in quantized)}

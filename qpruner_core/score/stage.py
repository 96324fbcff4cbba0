"""Stage 2: importance of each layer, and sensitivity to each precision of each group."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import bitsandbytes  # noqa: F401 - otherwise imported by the first precision used, within the time of the stage
import torch
from transformers import PreTrainedModel

from qpruner_core.fitting.fit_files import FitFiles
from qpruner_core.fitting.precision_bank import PrecisionBank, fitted_bank, fitted_pairs
from qpruner_core.fitting.sampled_bank import sampled_bank
from qpruner_core.measure.divergence import Divergence
from qpruner_core.measure.fisher import RoundedGroups, fisher_sensitivity
from qpruner_core.measure.sensitivity import SensitivityTable, divergence_sensitivity
from qpruner_core.mixed.groups import PrecisionGroup, precision_groups
from qpruner_core.mixed.pruned import load_pruned_model
from qpruner_core.resources import free_memory
from qpruner_core.score.information.layer_outputs import layer_mutual_information
from qpruner_core.search.scores import SCORES, Scores
from qpruner_core.stage import StageContext


def run(context: StageContext, output: Path) -> dict[str, Any]:
    """Write ``output/scores.json``."""
    settings = context.config.score
    family = context.plan.family
    model = load_pruned_model(context)
    calibration = context.data().calibration[: settings.calibration_sequences]
    information = layer_mutual_information(
        model,
        family,
        calibration,
        settings,
        seed=context.config.seed,
        on_layer=lambda done, total: context.progress(0.1 * done / total, "mutual information"),
    )
    groups = precision_groups(model, family, context.plan.target)
    sensitivity = _sensitivity(context, model, groups, calibration)
    scores = Scores(groups=[group.name for group in groups], mutual_information=information, sensitivity=sensitivity)
    (output / SCORES).write_text(scores.model_dump_json(indent=1) + "\n")
    return scores.model_dump(mode="json")


def _sensitivity(
    context: StageContext, model: PreTrainedModel, groups: Sequence[PrecisionGroup], calibration: torch.Tensor
) -> SensitivityTable:
    settings = context.config.score

    def on_fits(done: float) -> None:
        context.progress(0.1 + 0.5 * done, "quantizing")

    def on_step(done: int, total: int) -> None:
        context.progress(0.6 + 0.4 * done / total, "sensitivity")

    if settings.sensitivity == "fisher":
        # An adapter compensates for more of a few outputs than of all
        bank: RoundedGroups
        if context.plan.target.adapter_rank:
            bank = _fitted(context, model, groups, on_fits)
        else:
            moments_of = partial(FitFiles(context, model).moments, keep=True)
            bank = sampled_bank(context, model, groups, calibration, on_fits, moments_of)
        return fisher_sensitivity(
            model,
            bank,
            calibration,
            samples=settings.fisher_samples,
            seed=context.config.seed,
            on_piece=on_step,
        )
    fitted = _fitted(context, model, groups, on_fits)
    divergence = Divergence(model, context.plan.family, calibration, capacity=free_memory(model.device) // 4)
    return divergence_sensitivity(fitted, divergence, settings.sensitivity_context, on_step)


def _fitted(
    context: StageContext,
    model: PreTrainedModel,
    groups: Sequence[PrecisionGroup],
    on_progress: Callable[[float], None],
) -> PrecisionBank:
    """Every group at every precision, fitted as in the quantize stage."""
    wanted = fitted_pairs(groups, [group.options for group in groups])
    FitFiles(context, model).make(wanted, lambda done, total: on_progress(done / total))
    return fitted_bank(context, model, groups)

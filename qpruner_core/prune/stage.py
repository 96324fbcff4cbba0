"""Stage 1: the dense model becomes a smaller 16-bit model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from qpruner_core.models import load_model
from qpruner_core.models.checkpoint_writer import write_model
from qpruner_core.prune.blocks import Blocks
from qpruner_core.prune.criteria import CRITERIA
from qpruner_core.prune.surgery import prune_model
from qpruner_core.resources import best_device
from qpruner_core.stage import StageContext

MODEL = "model"


def run(context: StageContext, output: Path) -> dict[str, Any]:
    """Write the pruned checkpoint to ``output/model``."""
    plan = context.plan
    context.progress(0.0, "loading the model")
    model = load_model(context.source.directory).to(best_device())
    dense_parameters = model.num_parameters()
    if plan.ratio > 0:
        calibration = context.data().calibration[: context.config.prune.calibration_sequences]
        importance = CRITERIA["taylor_first"](
            model, plan.family, calibration, lambda done, total: context.progress(0.9 * done / total, "importance")
        )
        model = prune_model(model, plan.family, list(plan.widths), importance)
    context.progress(0.95, "writing the checkpoint")
    write_model(model, plan.family, output / MODEL, tokenizer_from=context.source.directory)
    return {
        "ratio": plan.ratio,
        "removed_fraction": Blocks.of(plan.dense_config, plan.family).removed_fraction(plan.widths),
        "parameters_before": dense_parameters,
        "parameters_after": model.num_parameters(),
        "widths": [width.model_dump() for width in plan.widths],
    }

"""Stage 2: the importance of each layer, and what each precision would do to it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from qpruner_core.models import load_model
from qpruner_core.quantize.groups import precision_groups
from qpruner_core.quantize.precision_bank import PrecisionBank
from qpruner_core.resources import best_device, free_memory
from qpruner_core.score.divergence import Divergence
from qpruner_core.score.information.layer_outputs import layer_mutual_information
from qpruner_core.score.scores import Scores
from qpruner_core.stage import StageContext

SCORES = "scores.json"


def run(context: StageContext, output: Path) -> dict[str, Any]:
    """Write ``output/scores.json``."""
    settings = context.config.score
    family = context.plan.family
    model = load_model(context.finished("prune") / "model").to(best_device())
    calibration = context.data().calibration[: settings.calibration_sequences]
    information = layer_mutual_information(
        model,
        family,
        calibration,
        settings,
        seed=context.config.seed,
        on_layer=lambda done, total: context.progress(0.2 * done / total, "mutual information"),
    )
    groups = precision_groups(model, family, context.config.allocate)
    bank = PrecisionBank(
        model,
        groups,
        double_quant=context.config.quantize.double_quant,
        capacity=free_memory(model.device) // 2,
        on_group=lambda done, total: context.progress(0.2 + 0.2 * done / total, "quantizing"),
    )
    divergence = Divergence(model, calibration)
    sensitivity: list[dict[int, float]] = []
    for index, group in enumerate(groups):
        losses = {16: 0.0}
        for bit in group.options:
            if bit != 16:
                bank.apply([bit if other == index else 16 for other in range(len(groups))])
                losses[bit] = divergence()
        sensitivity.append(losses)
        context.progress(0.4 + 0.6 * (index + 1) / len(groups), "sensitivity")
    scores = Scores(groups=[group.name for group in groups], mutual_information=information, sensitivity=sensitivity)
    (output / SCORES).write_text(scores.model_dump_json(indent=1) + "\n")
    return scores.model_dump(mode="json")

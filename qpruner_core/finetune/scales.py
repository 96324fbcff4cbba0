"""Recovery that trains the values that the format stores exactly, as DWQ of mlx-lm does: norms, biases and block
scales."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from qpruner_core.finetune.phase import Phase, train_phase
from qpruner_core.mixed.mixed_model import read_mixed_config, write_mixed_model
from qpruner_core.resources import best_device
from qpruner_core.stage import StageContext
from qpruner_core.training.scaled_model import load_scaled_model, stored_tensors


def recover_by_scales(context: StageContext, phase: Phase, source: Path, directory: Path) -> dict[str, Any]:
    """Write the mixed checkpoint of ``source`` to ``directory`` with these values trained and all codes unchanged."""
    model = load_scaled_model(source, device=best_device())
    summary = train_phase(context, model, phase)
    config, precision, family = read_mixed_config(source)
    precision = precision.model_copy(update={"adapters": False})
    write_mixed_model(directory, config, precision, stored_tensors(model, source), family)
    return summary

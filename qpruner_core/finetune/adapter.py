"""Recovery with an adapter that ships beside the quantized model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from qpruner_core.adapters import adapter_tensors, attach_adapter, write_adapter
from qpruner_core.finetune.phase import phases, train_phase
from qpruner_core.mixed.mixed_model import load_mixed_model
from qpruner_core.mixed.recovered import ADAPTER, quantized_model
from qpruner_core.resources import best_device
from qpruner_core.stage import StageContext


def recover_by_adapter(context: StageContext, output: Path) -> dict[str, Any]:
    """Write the recovered adapter, in bfloat16, to ``output/adapter``.

    Quantized modules are slow on a CPU, so training there uses their de-quantized values.
    """
    settings = context.config.finetune
    quantized, adapter = quantized_model(context)
    assert adapter is not None
    device = best_device()
    base = load_mixed_model(quantized, device=device, dequantize=device.type == "cpu")
    model = attach_adapter(base, adapter, trainable=True, dropout=settings.dropout, dtype=torch.float32)
    (summary,) = [train_phase(context, model, phase) for phase in phases(settings, ("adapter",))] or [{"steps": 0}]
    write_adapter(
        output / ADAPTER,
        adapter_tensors(model, torch.bfloat16),
        context.config.quantize,
        context.plan.family.adapted,
    )
    return summary

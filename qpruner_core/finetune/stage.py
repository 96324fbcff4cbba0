"""Stage 5: recovery by training the adapters on the quantized model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from qpruner_core.events import MetricRecorded
from qpruner_core.finetune.batches import batches
from qpruner_core.finetune.training import train_adapter
from qpruner_core.quantize.adapters import adapter_tensors, attach_adapter, write_adapter
from qpruner_core.quantize.mixed_model import load_mixed_model
from qpruner_core.resources import best_device
from qpruner_core.stage import StageContext

ADAPTER = "adapter"


def run(context: StageContext, output: Path) -> dict[str, Any]:
    """Write the recovered adapter, in bfloat16, to ``output/adapter``.

    On a CPU the quantized modules are slow, so training runs on their de-quantized values.
    """
    settings = context.config.finetune
    quantized = context.finished("quantize")
    device = best_device()
    base = load_mixed_model(quantized / "model", device=device, dequantize=device.type == "cpu")
    model = attach_adapter(base, quantized / "adapter", trainable=True, dropout=settings.dropout, dtype=torch.float32)
    losses: list[float] = []

    def on_step(step: int, loss: float) -> None:
        losses.append(loss)
        context.tell(MetricRecorded(name="finetune.loss", step=step, value=loss))
        context.progress(step / settings.steps, f"loss {loss:.3f}")

    if settings.steps > 0:
        stream = batches(context.data().train, settings.batch_size, seed=context.config.seed, device=device)
        train_adapter(model, stream, settings, on_step)
    write_adapter(
        output / ADAPTER,
        adapter_tensors(model, torch.bfloat16),
        context.config.quantize,
        [path.rpartition(".")[2] for path in context.plan.family.linears],
    )
    return {
        "steps": len(losses),
        "first_loss": losses[0] if losses else None,
        "last_loss": losses[-1] if losses else None,
    }

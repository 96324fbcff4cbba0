"""Stage 5: recovery by training the adapters on the quantized model."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel

from qpruner_core.events import MetricRecorded
from qpruner_core.mixed.adapters import adapter_tensors, attach_adapter, write_adapter
from qpruner_core.mixed.mixed_model import load_mixed_model
from qpruner_core.resources import best_device
from qpruner_core.stage import StageContext
from qpruner_core.stage_store import STAGE_FILE
from qpruner_core.training.batches import batches, in_batches
from qpruner_core.training.packing import keeps_examples_apart
from qpruner_core.training.teacher import LossChoice, choose_loss, load_teacher
from qpruner_core.training.training import train_adapter
from qpruner_core.training.training_state import Curves, TrainingState
from qpruner_core.training.validation import keep_back

ADAPTER = "adapter"
_CHOICE = "choice.json"


def run(context: StageContext, output: Path) -> dict[str, Any]:
    """Write the recovered adapter, in bfloat16, to ``output/adapter``.

    On a CPU the quantized modules are slow, so training runs on their de-quantized values.
    """
    settings = context.config.finetune
    quantized = context.finished("quantize")
    device = best_device()
    base = load_mixed_model(quantized / "model", device=device, dequantize=device.type == "cpu")
    model = attach_adapter(base, quantized / "adapter", trainable=True, dropout=settings.dropout, dtype=torch.float32)
    summary = _train(context, model) if settings.steps > 0 else {"steps": 0}
    write_adapter(
        output / ADAPTER,
        adapter_tensors(model, torch.bfloat16),
        context.config.quantize,
        [path.rpartition(".")[2] for path in context.plan.family.linears],
    )
    return summary


def _train(context: StageContext, model: PeftModel) -> dict[str, Any]:
    """Train with the stream, teacher and state that the settings ask for; goes on where a killed run was."""
    settings, device = context.config.finetune, model.device
    progress, key = context.store.progress_directory("finetune"), _key(context)
    choice = _choose_once(context, progress, key, device)
    if context.config.finetune.loss == "auto" and choice.loss == "cross_entropy":
        context.warn(f"Recovery learns from the text and not from the dense model: {choice.reason}.")
    train, kept_back = keep_back(context.data().train, settings.validation_sequences, context.config.seed)
    state = TrainingState(model, settings)
    state.load(progress, key)

    def on_step(step: int, loss: float) -> None:
        context.tell(MetricRecorded(name="finetune.loss", step=step, value=loss))
        if step % settings.checkpoint_every == 0 or context.cancel.cancelled:
            state.save(progress, key)
        context.progress(step / settings.steps, f"{choice.loss.replace('_', ' ')} {loss:.3f}")

    def on_validation(step: int, loss: float) -> None:
        context.tell(MetricRecorded(name="finetune.validation_loss", step=step, value=loss))

    stream = batches(
        train,
        settings.batch_size,
        seed=context.config.seed,
        device=device,
        packed_length=_packed_length(context, model),
        first=state.curves.step * settings.gradient_accumulation,
    )
    distils = choice.loss == "distillation"
    train_adapter(
        model,
        stream,
        settings,
        on_step,
        distillation=load_teacher(context.source.directory, settings, device) if distils else None,
        validation=in_batches(kept_back, settings.batch_size, device),
        on_validation=on_validation,
        state=state,
        seed=context.config.seed,
    )
    return _summary(state.curves, choice, len(kept_back))


def _key(context: StageContext) -> str:
    """Digest of what the training follows from: the stages before it, which know of the data, and its settings."""
    quantized = json.loads((context.finished("quantize") / STAGE_FILE).read_text())["key"]
    return hashlib.sha256(f"{quantized} {context.config.finetune.model_dump_json()}".encode()).hexdigest()


def _choose_once(context: StageContext, progress: Path, key: str, device: torch.device) -> LossChoice:
    """The loss of this training; a run that goes on keeps to that of the one before, whatever is free now."""
    file = progress / f"{key}.{_CHOICE}"
    if file.is_file():
        return LossChoice.model_validate_json(file.read_bytes())
    choice = choose_loss(context.config.finetune, context.plan.dense_config, device)
    progress.mkdir(parents=True, exist_ok=True)
    partial = file.with_suffix(".partial")
    partial.write_text(choice.model_dump_json())
    partial.replace(file)
    return choice


def _packed_length(context: StageContext, model: PeftModel) -> int | None:
    if not context.config.finetune.packing:
        return None
    if not keeps_examples_apart(model):
        context.warn("Examples are not packed in recovery: this model's attention would mix those of one sequence.")
        return None
    return context.config.sequence_length


def _summary(curves: Curves, choice: LossChoice, kept_back: int) -> dict[str, Any]:
    return {
        "steps": curves.step,
        "loss": choice.loss,
        "loss_reason": choice.reason,
        "first_loss": curves.losses[0],
        "last_loss": curves.losses[-1],
        "best_step": curves.best[0] if curves.validation else curves.step,
        "validation_sequences": kept_back,
        "validation": [list(point) for point in curves.validation],
    }

"""One training phase of the stage: its share of the steps, and its resumption."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from peft import PeftModel
from transformers import PreTrainedModel

from qpruner_core.events import MetricRecorded
from qpruner_core.finetune.config import FinetuneConfig, RecoveryPart
from qpruner_core.stage import StageContext
from qpruner_core.training.batches import Batch, batches, in_batches
from qpruner_core.training.loss_choice import LossChoice, kept_choice, recovery_key
from qpruner_core.training.packing import keeps_examples_apart
from qpruner_core.training.teacher import load_teacher
from qpruner_core.training.training import Validation, train
from qpruner_core.training.training_state import Curves, TrainingState
from qpruner_core.training.validation import keep_back


@dataclass(frozen=True)
class Phase:
    """A part of a recovery.

    ``settings``: with its own steps and learning rate. ``before``: steps taken by earlier parts; ``planned_before``,
    ``planned``: steps planned for earlier parts, and for all.
    """

    part: RecoveryPart
    settings: FinetuneConfig
    before: int
    planned_before: int
    planned: int


def phases(settings: FinetuneConfig, parts: tuple[RecoveryPart, ...]) -> list[Phase]:
    """The ``parts`` with the steps divided among them; the first ones get the remainder. Parts without steps are
    dropped."""
    found, planned_before = [], 0
    for index, part in enumerate(parts):
        left = settings.steps - planned_before
        steps = -(-left // (len(parts) - index))
        rate = settings.scale_learning_rate if part == "scales" else settings.learning_rate
        own = settings.model_copy(update={"steps": steps, "learning_rate": rate})
        found.append(Phase(part, own, planned_before, planned_before, settings.steps))
        planned_before += steps
    return [phase for phase in found if phase.settings.steps > 0]


def train_phase(context: StageContext, model: PreTrainedModel | PeftModel, phase: Phase) -> dict[str, Any]:
    """Train ``model`` with stream, teacher and state from the settings; resumes a killed run.

    Steps are counted over the whole recovery.
    """
    settings, device = phase.settings, model.device
    progress, key = context.store.progress_directory("finetune"), recovery_key(context)
    choice = kept_choice(context)
    if settings.loss == "auto" and choice.loss == "cross_entropy":
        context.warn(f"Recovery trains on the text instead of the dense model's predictions: {choice.reason}.")
    examples, kept_back = keep_back(context.data().train, settings.validation_sequences, context.config.seed)
    state = TrainingState(model, settings, relative=phase.part == "scales")
    state.load(progress, f"{key} {phase.part}")

    def on_step(step: int, loss: float) -> None:
        context.tell(MetricRecorded(name="finetune.loss", step=phase.before + step, value=loss))
        if step % settings.checkpoint_every == 0 or context.cancel.cancelled:
            state.save(progress, f"{key} {phase.part}")
        done = (phase.planned_before + step) / phase.planned
        context.progress(done, f"{choice.loss.replace('_', ' ')} {loss:.3f}")

    def on_validation(step: int, loss: float) -> None:
        context.tell(MetricRecorded(name="finetune.validation_loss", step=phase.before + step, value=loss))

    stream = batches(
        examples,
        settings.batch_size,
        seed=context.config.seed,
        device=device,
        packed_length=_packed_length(context, model),
        first=state.curves.step * settings.gradient_accumulation,
    )
    distils = choice.loss == "distillation"
    train(
        model,
        stream,
        settings,
        on_step,
        distillation=load_teacher(context.source.directory, settings, device) if distils else None,
        validation=Validation(in_batches(kept_back, settings.batch_size, device), on_validation),
        state=state,
        seed=context.config.seed,
    )
    return _summary(state.curves, choice, len(kept_back), phase)


def validation_batches(context: StageContext, device: torch.device) -> list[Batch]:
    """Held-back batches by which :func:`train_phase` chooses the best step."""
    settings = context.config.finetune
    _, kept_back = keep_back(context.data().train, settings.validation_sequences, context.config.seed)
    return in_batches(kept_back, settings.batch_size, device)


def together(summaries: list[dict[str, Any]]) -> dict[str, Any]:
    """Summary of a whole recovery from the ``summaries`` of its parts, which count the steps of all of them."""
    first, last = summaries[0], summaries[-1]
    curve = [point for summary in summaries for point in summary["validation"]]
    return last | {"first_loss": first["first_loss"], "validation": curve}


def _packed_length(context: StageContext, model: PreTrainedModel | PeftModel) -> int | None:
    if not context.config.finetune.packing:
        return None
    if not keeps_examples_apart(model):
        context.warn(
            "Examples are not packed in recovery: this model's attention would mix the examples of one sequence."
        )
        return None
    return context.config.sequence_length


def _summary(curves: Curves, choice: LossChoice, kept_back: int, phase: Phase) -> dict[str, Any]:
    return {
        "steps": phase.before + curves.step,
        "loss": choice.loss,
        "loss_reason": choice.reason,
        "first_loss": curves.losses[0],
        "last_loss": curves.losses[-1],
        "best_step": phase.before + (curves.best[0] if curves.validation else curves.step),
        "validation_sequences": kept_back,
        "validation": [[phase.before + step, loss] for step, loss in curves.validation],
    }

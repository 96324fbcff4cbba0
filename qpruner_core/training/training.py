"""The training loop for adapters or scales."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from peft import PeftModel
from transformers import PreTrainedModel

from qpruner_core.data.tokenization import IGNORED
from qpruner_core.errors import NotFiniteError, TrainingDivergedError
from qpruner_core.finetune.config import FinetuneConfig
from qpruner_core.training.batches import Batch
from qpruner_core.training.losses import Distillation, add_gradient
from qpruner_core.training.schedule import learning_rate
from qpruner_core.training.training_state import TrainingState
from qpruner_core.training.validation import validation_loss

OnStep = Callable[[int, float], None]
"""Called with a number of finished optimiser steps and a mean loss, in nats per token."""


@dataclass(frozen=True)
class Validation:
    """Batches that :func:`train` validates on, and the callback that receives their loss."""

    batches: Sequence[Batch]
    on_loss: OnStep = lambda step, loss: None

    def __bool__(self) -> bool:
        """Whether there is anything to evaluate on."""
        return bool(self.batches)


def train(
    model: PreTrainedModel | PeftModel,
    stream: Iterator[Batch],
    settings: FinetuneConfig,
    on_step: OnStep,
    *,
    distillation: Distillation | None = None,
    validation: Validation | None = None,
    state: TrainingState | None = None,
    seed: int = 0,
) -> TrainingState:
    """Train the trainable parameters of ``model`` in place with AdamW.

    They end in bfloat16, at their values of the best validation if there is any.

    Args:
        model: with a trainable adapter or scales, in train mode.
        stream: batches; each step takes ``settings.gradient_accumulation`` of them.
        settings: ``batch_size``, ``packing``, ``loss`` and ``validation_sequences`` are not read here; the caller
            applies them when it builds the other arguments.
        on_step: receives the loss of the last step. An exception that it raises ends the training with ``state`` at
            that step.
        distillation: replaces cross-entropy as the loss, in training and in validation.
        validation: evaluated before the first step, every ``settings.evaluate_every`` steps and after the last. The
            best parameters are kept, and training ends after ``settings.patience`` validations without improvement.
        state: training state of ``model``. If it has steps behind it, training resumes there; ``stream`` must then
            start at that step.
        seed: seed of dropout.

    Raises:
        NotFiniteError: the loss is not finite before the first step.
        TrainingDivergedError: the loss or the gradient is no longer finite.
    """
    state = state or TrainingState(model, settings)
    curves = state.curves
    if settings.activation_checkpointing:
        _checkpoint_activations(model)
    while True:
        if validation and _validation_is_due(state, settings):
            _validate(model, validation, distillation, state)
        out_of_patience = settings.patience and validation and curves.evaluations_since_best >= settings.patience
        if curves.step >= settings.steps or out_of_patience:
            break
        torch.manual_seed(seed * 1_000_003 + curves.step)  # so that dropout follows from the step alone
        group = [next(stream) for _ in range(settings.gradient_accumulation)]
        curves.losses.append(_step(model, group, settings, state, distillation))
        curves.step += 1
        on_step(curves.step, curves.losses[-1])
    state.restore_best()
    return state


def _checkpoint_activations(model: PreTrainedModel | PeftModel) -> None:
    base = model.get_base_model() if isinstance(model, PeftModel) else model
    enable = getattr(base, "activation_checkpointing_enable", None) or base.gradient_checkpointing_enable
    enable(
        {"use_reentrant": False}
    )  # the older kind requires inputs with gradients, which frozen embeddings do not have


def _validation_is_due(state: TrainingState, settings: FinetuneConfig) -> bool:
    step, done = state.curves.step, state.curves.validation
    if done and done[-1][0] == step:
        return False
    return step % settings.evaluate_every == 0 or step == settings.steps


def _validate(
    model: PreTrainedModel | PeftModel, validation: Validation, distillation: Distillation | None, state: TrainingState
) -> None:
    curves = state.curves
    loss = validation_loss(model, validation.batches, distillation)
    if not math.isfinite(loss):
        raise _not_finite("loss on held-out text", loss, curves.step)
    curves.validation.append((curves.step, loss))
    if curves.best[0] == curves.step:
        state.remember_best()
    validation.on_loss(curves.step, loss)


def _step(
    model: PreTrainedModel | PeftModel,
    group: Sequence[Batch],
    settings: FinetuneConfig,
    state: TrainingState,
    distillation: Distillation | None,
) -> float:
    """One step on the mean loss over all targets of ``group``; returns that loss."""
    tokens = max(sum(int((batch.targets != IGNORED).sum()) for batch in group), 1)
    loss = sum(add_gradient(model, batch, tokens, distillation) for batch in group)
    state.gradients_to_masters()
    norm = float(torch.nn.utils.clip_grad_norm_(state.masters, settings.max_gradient_norm))
    if not math.isfinite(loss):
        raise _not_finite("loss", loss, state.curves.step)
    if not math.isfinite(norm):
        raise _not_finite("gradient", norm, state.curves.step)
    state.set_learning_rate(learning_rate(settings, state.curves.step))
    state.optimizer.step()
    state.optimizer.zero_grad()  # free them: they are as large as the masters, and activations are still to come
    state.masters_to_factors()
    return loss


def _not_finite(what: str, value: float, steps: int) -> NotFiniteError | TrainingDivergedError:
    if steps == 0:
        return NotFiniteError(
            f"The {what} is {value} before the first step, so the model is the cause, not the learning rate.",
            field="model",
            remedy="Check its weights for NaN or infinity, or prune less.",
        )
    return TrainingDivergedError(
        f"The {what} became {value} after {steps} steps.",
        field="finetune.learning_rate",
        remedy="Lower finetune.learning_rate, or raise finetune.warmup_steps.",
    )

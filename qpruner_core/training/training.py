"""The optimisation of adapters, or of scales."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence

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


def train(
    model: PreTrainedModel | PeftModel,
    stream: Iterator[Batch],
    settings: FinetuneConfig,
    on_step: OnStep,
    *,
    distillation: Distillation | None = None,
    validation: Sequence[Batch] = (),
    on_validation: OnStep = lambda step, loss: None,
    state: TrainingState | None = None,
    seed: int = 0,
) -> TrainingState:
    """Train what of ``model`` takes gradients in place with AdamW; it ends in bfloat16, at the best evaluation if there
    was one.

    Args:
        model: with a trainable adapter or scales, in train mode.
        stream: batches; ``settings.gradient_accumulation`` of them a step.
        settings: ``batch_size``, ``packing``, ``loss`` and ``validation_sequences`` are for who makes the arguments.
        on_step: receives the number of finished optimiser steps and the mean loss of the last, in nats per token. What
            it raises ends the training with ``state`` at that step.
        distillation: the loss in place of cross-entropy, in training and in evaluations.
        validation: batches whose loss is taken before the first step, every ``settings.evaluate_every`` steps and
            after the last; the best of these is kept, and training ends after ``settings.patience`` without a better.
        on_validation: receives the step and that loss, in nats per token.
        state: of ``model``; one that has begun goes on, and then ``stream`` begins at its step.
        seed: of dropout.

    Raises:
        NotFiniteError: the loss is not finite before anything was learned.
        TrainingDivergedError: the loss or the gradient is no longer finite.
    """
    state = state or TrainingState(model, settings)
    curves = state.curves
    if settings.activation_checkpointing:
        _checkpoint_activations(model)
    while True:
        if validation and _evaluation_is_due(state, settings):
            _evaluate(model, validation, distillation, state, on_validation)
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
    enable({"use_reentrant": False})  # the older kind wants inputs with gradients, which frozen embeddings have not


def _evaluation_is_due(state: TrainingState, settings: FinetuneConfig) -> bool:
    step, done = state.curves.step, state.curves.validation
    if done and done[-1][0] == step:
        return False
    return step % settings.evaluate_every == 0 or step == settings.steps


def _evaluate(
    model: PreTrainedModel | PeftModel,
    validation: Sequence[Batch],
    distillation: Distillation | None,
    state: TrainingState,
    on_validation: OnStep,
) -> None:
    curves = state.curves
    loss = validation_loss(model, validation, distillation)
    if not math.isfinite(loss):
        raise _not_finite("loss on held-out text", loss, curves.step)
    curves.validation.append((curves.step, loss))
    if curves.best[0] == curves.step:
        state.remember_best()
    on_validation(curves.step, loss)


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
    state.optimizer.zero_grad()  # frees them: they are as large as the masters, and activations are still to come
    state.masters_to_factors()
    return loss


def _not_finite(what: str, value: float, steps: int) -> NotFiniteError | TrainingDivergedError:
    if steps == 0:
        return NotFiniteError(
            f"The {what} is {value} before the first step, so it is the model and not the learning rate.",
            field="model",
            remedy="Look for NaN or infinite weights in it, or prune less.",
        )
    return TrainingDivergedError(
        f"The {what} became {value} after {steps} steps.",
        field="finetune.learning_rate",
        remedy="Lower finetune.learning_rate, or raise finetune.warmup_steps.",
    )

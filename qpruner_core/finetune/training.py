"""The optimisation of the adapters."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import torch
from peft import PeftModel
from torch.nn.functional import cross_entropy
from transformers import get_cosine_schedule_with_warmup

from qpruner_core.errors import TrainingDivergedError
from qpruner_core.finetune.batches import IGNORED, Batch
from qpruner_core.finetune.config import FinetuneConfig


def train_adapter(
    model: PeftModel, stream: Iterator[Batch], settings: FinetuneConfig, on_step: Callable[[int, float], None]
) -> None:
    """Train the adapter's factors in place with AdamW, linear warm-up and cosine decay.

    ``on_step`` receives the number of finished optimiser steps and the mean loss of the last, in nats per token.

    Raises:
        TrainingDivergedError: the loss or the gradient is not finite.
    """
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = settings.dropout
    optimizer = torch.optim.AdamW(parameters, lr=settings.learning_rate, weight_decay=0.0)
    schedule = get_cosine_schedule_with_warmup(
        optimizer, min(settings.warmup_steps, settings.steps // 2), settings.steps
    )
    for step in range(1, settings.steps + 1):
        loss = _accumulate(model, [next(stream) for _ in range(settings.gradient_accumulation)])
        norm = torch.nn.utils.clip_grad_norm_(parameters, settings.max_gradient_norm)
        if not (math.isfinite(loss) and math.isfinite(norm)):
            raise TrainingDivergedError(
                f"The loss became {loss} at step {step}.",
                field="finetune.learning_rate",
                remedy="Lower finetune.learning_rate, or raise finetune.warmup_steps.",
            )
        optimizer.step()
        schedule.step()
        optimizer.zero_grad(set_to_none=True)
        on_step(step, loss)


def _accumulate(model: PeftModel, group: list[Batch]) -> float:
    """Add the gradients of the mean loss over all labelled tokens of ``group``; returns that loss."""
    tokens = max(sum(int((batch.labels[:, 1:] != IGNORED).sum()) for batch in group), 1)
    total = 0.0
    for batch in group:
        logits = model(input_ids=batch.input_ids, attention_mask=batch.attention_mask, use_cache=False).logits
        loss = (
            cross_entropy(
                logits[:, :-1].reshape(-1, logits.shape[-1]).float(),
                batch.labels[:, 1:].reshape(-1),
                ignore_index=IGNORED,
                reduction="sum",
            )
            / tokens
        )
        loss.backward()
        total += loss.item()
    return total

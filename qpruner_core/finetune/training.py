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

    The factors end in bfloat16, which the model computes with; the optimiser works on float32 copies of them, as steps
    are too small for bfloat16 to hold.

    ``on_step`` receives the number of finished optimiser steps and the mean loss of the last, in nats per token.

    Raises:
        TrainingDivergedError: the loss or the gradient is not finite.
    """
    factors = [parameter for parameter in model.parameters() if parameter.requires_grad]
    masters = [torch.nn.Parameter(factor.detach().float().clone()) for factor in factors]
    for factor in factors:
        factor.data = factor.data.to(torch.bfloat16)
    optimizer = torch.optim.AdamW(masters, lr=settings.learning_rate, weight_decay=0.0)
    schedule = get_cosine_schedule_with_warmup(
        optimizer, min(settings.warmup_steps, settings.steps // 2), settings.steps
    )
    for step in range(1, settings.steps + 1):
        loss = _accumulate(model, [next(stream) for _ in range(settings.gradient_accumulation)])
        for master, factor in zip(masters, factors, strict=True):
            master.grad = None if factor.grad is None else factor.grad.float()
            factor.grad = None
        norm = torch.nn.utils.clip_grad_norm_(masters, settings.max_gradient_norm)
        if not (math.isfinite(loss) and math.isfinite(norm)):
            raise TrainingDivergedError(
                f"The loss became {loss} at step {step}.",
                field="finetune.learning_rate",
                remedy="Lower finetune.learning_rate, or raise finetune.warmup_steps.",
            )
        optimizer.step()
        schedule.step()
        for master, factor in zip(masters, factors, strict=True):
            factor.data.copy_(master.data)
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

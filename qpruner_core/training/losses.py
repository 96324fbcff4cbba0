"""The losses of recovery, computed a few positions at a time.

Logits of all positions would be by far the largest tensors of training (``tokens · vocabulary``, in float32, several of
them). So only positions with a target go through the head, :data:`CHUNK` at a time, and each chunk's gradient is
computed before the next chunk.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import torch
from peft import PeftModel
from torch.nn.functional import cross_entropy, kl_div, log_softmax
from transformers import PreTrainedModel

from qpruner_core.data.tokenization import IGNORED
from qpruner_core.training.batches import Batch

CHUNK = 256
"""Positions whose logits are in memory at once; to distil, four times over in float32. So many that widening the head's
weight for them, on a CPU, costs little beside the product."""


@dataclass(frozen=True)
class Distillation:
    """KL(teacher ‖ student) of predictions softened by ``temperature``, times its square (arXiv 1503.02531).

    ``share``: weight of this loss; the rest is cross-entropy.
    """

    teacher: PreTrainedModel
    temperature: float = 1.0
    share: float = 1.0


def hidden_states(model: PreTrainedModel | PeftModel, batch: Batch) -> torch.Tensor:
    """Inputs of the head, ``[n, hidden]``, at the ``n`` positions with a target."""
    states = _causal(model).base_model(
        input_ids=batch.input_ids, position_ids=batch.position_ids, use_cache=False
    ).last_hidden_state  # fmt: skip
    chosen: torch.Tensor = states[batch.targets != IGNORED]
    return chosen


def logits_of(model: PreTrainedModel | PeftModel, hidden: torch.Tensor) -> torch.Tensor:
    """The model's logits ``[n, vocabulary]``, float32, from ``hidden [n, hidden]``, with its scaling and caps."""
    causal = _causal(model)
    logits: torch.Tensor = causal.get_output_embeddings()(hidden).float()
    if (scaling := getattr(causal.config, "logits_scaling", None)) is not None:
        logits = logits / scaling
    if (cap := getattr(causal.config, "final_logit_softcapping", None)) is not None:
        logits = torch.tanh(logits / cap) * cap
    return logits


def _causal(model: PreTrainedModel | PeftModel) -> PreTrainedModel:
    return model.get_base_model() if isinstance(model, PeftModel) else model


def add_gradient(
    student: PreTrainedModel | PeftModel, batch: Batch, tokens: int, distillation: Distillation | None
) -> float:
    """Add the gradient of the loss on ``batch``, summed over its targets and divided by ``tokens``; returns that
    loss."""
    targets = batch.targets[batch.targets != IGNORED]
    if len(targets) == 0:
        return 0.0
    expected = None
    if distillation is not None:
        with torch.no_grad():
            expected = hidden_states(distillation.teacher, batch)
    hidden = hidden_states(student, batch)
    gradient = torch.empty_like(hidden)
    total = 0.0
    for start in range(0, len(targets), CHUNK):
        chunk = slice(start, start + CHUNK)
        inputs = hidden[chunk].detach().requires_grad_()
        if distillation is None or expected is None:
            total += _learn_text(student, inputs, targets[chunk], tokens)
        else:
            loss = _distilled(student, inputs, expected[chunk], targets[chunk], distillation)
            (loss / tokens).backward()
            total += loss.item()
        gradient[chunk] = cast(torch.Tensor, inputs.grad)
    hidden.backward(gradient)
    return total / tokens


def _learn_text(
    student: PreTrainedModel | PeftModel, hidden: torch.Tensor, targets: torch.Tensor, tokens: int
) -> float:
    """Add the gradient of the cross-entropy of one chunk, divided by ``tokens``; returns the undivided loss.

    The gradient of the logits, their softmax minus one at the target, overwrites them: autograd would hold three
    tensors of their size.
    """
    logits, wanted = logits_of(student, hidden), targets.unsqueeze(1)
    gradient = logits.detach()
    gradient -= gradient.amax(dim=-1, keepdim=True)
    chosen = gradient.gather(1, wanted)
    sums = gradient.exp_().sum(dim=-1, keepdim=True)
    gradient.div_(sums).scatter_add_(1, wanted, torch.full_like(chosen, -1.0)).div_(tokens)
    logits.backward(gradient)
    return float((sums.log() - chosen).sum())


def _distilled(
    student: PreTrainedModel | PeftModel,
    hidden: torch.Tensor,
    expected: torch.Tensor,
    targets: torch.Tensor,
    distillation: Distillation,
) -> torch.Tensor:
    """The loss of one chunk; afterwards its logits are free, as the gradient needs only their softmax."""
    logits = logits_of(student, hidden)
    temperature, share = distillation.temperature, distillation.share
    with torch.no_grad():
        wanted = log_softmax(logits_of(distillation.teacher, expected) / temperature, dim=-1)
    loss = kl_div(log_softmax(logits / temperature, dim=-1), wanted, reduction="sum", log_target=True)
    loss = loss * (share * temperature**2)
    if share < 1:
        loss = loss + (1 - share) * cross_entropy(logits, targets, reduction="sum")
    return loss


@torch.no_grad()
def loss_sum(model: PreTrainedModel | PeftModel, batch: Batch, distillation: Distillation | None = None) -> float:
    """The loss of :func:`add_gradient`, summed over the targets of ``batch``, in nats."""
    targets = batch.targets[batch.targets != IGNORED]
    hidden = hidden_states(model, batch)
    if distillation is None:
        return sum(
            cross_entropy(logits_of(model, states), wanted, reduction="sum").item()
            for states, wanted in zip(hidden.split(CHUNK), targets.split(CHUNK), strict=True)
        )
    expected = hidden_states(distillation.teacher, batch)
    chunks = zip(hidden.split(CHUNK), expected.split(CHUNK), targets.split(CHUNK), strict=True)
    return sum(_distilled(model, *chunk, distillation).item() for chunk in chunks)

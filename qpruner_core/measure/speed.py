"""Generation speed of a model."""

from __future__ import annotations

import time
from dataclasses import dataclass

import torch
from peft import PeftModel
from transformers import PreTrainedModel

from qpruner_core.measure.generation import generate_greedily
from qpruner_core.models.positions import most_positions

_WARM_UP = 2
"""Tokens."""


@dataclass(frozen=True)
class Speed:
    """Tokens generated per second at batch 1 by ``engine``, and tokens of a prompt read per second if measured."""

    tokens_per_second: float
    engine: str
    prefill_tokens_per_second: float | None = None


class EngineFailedError(Exception):
    """The measurement of an installed engine failed; the message has the reason."""


def tokens_per_second(model: PreTrainedModel | PeftModel, prompt: torch.Tensor, new_tokens: int) -> float:
    """Speed of greedy generation at batch 1 with a KV cache, after a warm-up; ``prompt``: token ids ``[length]``.

    If the model has too few positions for both, the prompt is cut on its left, then fewer tokens are generated.
    """
    positions = most_positions(model.config)
    if positions is not None:
        new_tokens = min(new_tokens, positions - 1)
        prompt = prompt[-max(1, positions - max(new_tokens, _WARM_UP)) :]
    generate_greedily(model, prompt, _WARM_UP)
    started = time.perf_counter()
    generate_greedily(model, prompt, new_tokens)
    return new_tokens / (time.perf_counter() - started)

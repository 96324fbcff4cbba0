"""How fast a model generates."""

from __future__ import annotations

import time

import torch
from torch import nn

from qpruner_core.evaluate.generation import generate_greedily


def tokens_per_second(model: nn.Module, prompt: torch.Tensor, new_tokens: int) -> float:
    """Greedy generation at batch 1 with a KV cache, after a warm-up; ``prompt``: token ids ``[length]``."""
    generate_greedily(model, prompt, 2)
    started = time.perf_counter()
    generate_greedily(model, prompt, new_tokens)
    return new_tokens / (time.perf_counter() - started)

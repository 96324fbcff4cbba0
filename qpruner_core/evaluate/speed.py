"""How fast a model generates."""

from __future__ import annotations

import time

import torch
from transformers import GenerationMixin

from qpruner_core.models.positions import most_positions

_WARM_UP = 2
"""Tokens."""


@torch.no_grad()
def tokens_per_second(model: GenerationMixin, prompt: torch.Tensor, new_tokens: int) -> float:
    """Greedy generation at batch 1 with a KV cache, after a warm-up; ``prompt``: token ids ``[length]``.

    Where the model has too few positions for both, the prompt is cut on its left, then fewer tokens are generated.
    """
    positions = most_positions(model.config)
    if positions is not None:
        new_tokens = min(new_tokens, positions - 1)
        prompt = prompt[-max(1, positions - max(new_tokens, _WARM_UP)) :]
    ids = prompt.unsqueeze(0).to(model.device)
    settings = {"do_sample": False, "attention_mask": torch.ones_like(ids), "pad_token_id": 0}
    model.generate(ids, max_new_tokens=_WARM_UP, min_new_tokens=_WARM_UP, **settings)
    started = time.perf_counter()
    model.generate(ids, max_new_tokens=new_tokens, min_new_tokens=new_tokens, **settings)
    return new_tokens / (time.perf_counter() - started)

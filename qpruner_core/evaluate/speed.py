"""How fast a model generates."""

from __future__ import annotations

import time

import torch
from transformers import GenerationMixin


@torch.no_grad()
def tokens_per_second(model: GenerationMixin, prompt: torch.Tensor, new_tokens: int) -> float:
    """Greedy generation at batch 1 with a KV cache, after a warm-up; ``prompt``: token ids ``[length]``."""
    ids = prompt.unsqueeze(0).to(model.device)
    settings = {"do_sample": False, "attention_mask": torch.ones_like(ids), "pad_token_id": 0}
    model.generate(ids, max_new_tokens=2, min_new_tokens=2, **settings)
    started = time.perf_counter()
    model.generate(ids, max_new_tokens=new_tokens, min_new_tokens=new_tokens, **settings)
    return new_tokens / (time.perf_counter() - started)

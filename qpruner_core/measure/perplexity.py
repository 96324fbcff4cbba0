"""Perplexity on text that no other stage has seen."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import cast

import torch
from torch import nn
from torch.nn.functional import cross_entropy
from transformers import PreTrainedModel

from qpruner_core.errors import NotFiniteError

_ROWS = 128
"""Tokens whose logits are in float32 at once."""
_LOGITS = 512 * 49_152
"""Logits of one forward pass, if those of a window are fewer: passes over short windows cost more than their products,
and large vocabularies take much memory."""


@torch.no_grad()
def perplexity(
    model: nn.Module,
    windows: torch.Tensor,
    on_window: Callable[[int, int], None],
    on_logits: Callable[[torch.Tensor], None] = lambda logits: None,
) -> float:
    """exp of the mean negative log-likelihood of each token given the tokens before it in its window.

    Args:
        model: causal language model in eval mode.
        windows: token ids ``[windows, length]``, int64, not overlapping; the first token of each is not predicted.
        on_window: called with (done, total).
        on_logits: called with the logits ``[length - 1, vocabulary]`` of each window, in order, in the model's dtype.

    Raises:
        NotFiniteError: a prediction is NaN.
    """
    total, done = 0.0, 0
    device = next(model.parameters()).device
    together = max(_LOGITS // (windows.shape[1] * cast(PreTrainedModel, model).config.vocab_size), 1)
    for group in windows.to(device).split(together):
        for ids, logits in zip(group, model(input_ids=group, use_cache=False).logits[:, :-1], strict=True):
            for rows, wanted in zip(logits.split(_ROWS), ids[1:].split(_ROWS), strict=True):
                total += cross_entropy(rows.float(), wanted, reduction="sum").item()
            on_logits(logits)
            done += 1
            on_window(done, len(windows))
        del logits
    if math.isnan(total):
        raise NotFiniteError(
            "The model's predictions are not finite.",
            field="model",
            remedy="Check its weights for NaN or infinity, or prune less.",
        )
    return math.exp(min(total / (windows.shape[0] * (windows.shape[1] - 1)), 700.0))

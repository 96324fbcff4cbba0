"""A backward pass in the memory of one layer and a few tokens' logits; its gradients equal those of a plain one.

transformers' own checkpointing works in training mode only, which would turn dropout on, so it is not used.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint
from transformers import PreTrainedModel
from transformers.modeling_layers import GradientCheckpointingLayer

_TOKENS_AT_ONCE = 64
"""Tokens whose logits exist at a time: at a vocabulary of 128,000 about 130 MB with their gradients."""


@contextmanager
def recomputed_layers(model: PreTrainedModel) -> Iterator[None]:
    """Context manager in which a layer keeps only its inputs, and recomputes its activations in the backward pass."""
    with ExitStack() as stack:
        for module in model.modules():
            if isinstance(module, GradientCheckpointingLayer):
                stack.enter_context(_replaced_forward(module, _recomputed(module.forward)))
        yield


def next_token_loss(model: PreTrainedModel, ids: torch.Tensor) -> torch.Tensor:
    """Mean next-token cross-entropy on ``ids [1, length]``, in at least float32; the model must be in eval mode.

    The logits of a few tokens are computed at a time, and again in the backward pass, by the model's own output head
    (which may scale or cap them): it is called with the decoder's states for these tokens in place of the decoder.
    """
    decoder: nn.Module = model.get_decoder()
    output = decoder(input_ids=ids, use_cache=False)
    states, targets = output.last_hidden_state[:, :-1], ids[:, 1:]

    def summed(states: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        with _replaced_forward(decoder, lambda *_, **__: type(output)(last_hidden_state=states)):
            logits = model(input_ids=targets, use_cache=False).logits
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
        return nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="sum")

    parts = zip(states.split(_TOKENS_AT_ONCE, dim=1), targets.split(_TOKENS_AT_ONCE, dim=1), strict=True)
    losses = [_recomputed(summed)(part, target) for part, target in parts]
    return torch.stack(losses).sum() / targets.numel()


def _recomputed(function: Callable[..., Any]) -> Callable[..., Any]:
    def run(*args: Any, **kwargs: Any) -> Any:
        return checkpoint(function, *args, use_reentrant=False, preserve_rng_state=False, **kwargs)

    return run


@contextmanager
def _replaced_forward(module: nn.Module, forward: Callable[..., Any]) -> Iterator[None]:
    own = module.__dict__.get("forward")  # if other code has wrapped it already
    module.__dict__["forward"] = forward
    try:
        yield
    finally:
        del module.__dict__["forward"]
        if own is not None:
            module.__dict__["forward"] = own

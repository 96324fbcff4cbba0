"""Second moments of the inputs of modules, summed over calibration text."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn
from transformers import PreTrainedModel

from qpruner_core.forward.passes import OnBatch, Resuming, forward_passes, hooked, require_finite

_ROWS_AT_ONCE = 192
"""Rows of moments that are summed together, from the diagonal on; the part left of it is mirrored."""


def second_moments(
    model: PreTrainedModel,
    modules: Sequence[nn.Module],
    calibration: torch.Tensor,
    on_batch: OnBatch,
    *,
    resuming: Resuming | None = None,
) -> dict[nn.Module, torch.Tensor]:
    """Sum over all tokens of ``x xᵀ``, x being the input of a module: ``[inputs, inputs]`` each, float32 or wider.

    Consecutive modules with the very same input tensor (query, key and value) share their moments. Layers after the
    last of ``modules`` do not run; with ``resuming``, neither do those that ran before, see :func:`forward_passes`. The
    input of a module with the head's weights (the head, or embeddings tied to it) is that of the head; all layers run
    for it.

    Raises:
        NotFiniteError: an activation is NaN or infinite.
    """
    moments: dict[nn.Module, torch.Tensor] = {}
    last: tuple[nn.Module, torch.Tensor] | None = None

    def take(module: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        nonlocal last
        if last is not None and inputs[0] is last[1]:
            moments[module] = moments[last[0]]
        else:
            last = module, inputs[0]
            add(module, inputs[0])

    def add(module: nn.Module, inputs: torch.Tensor) -> None:
        tokens = inputs.flatten(0, -2)
        tokens = tokens if tokens.dtype == torch.float64 else tokens.float()
        if module not in moments:
            moments[module] = tokens.new_zeros(tokens.shape[1], tokens.shape[1])
        for start in range(0, tokens.shape[1], _ROWS_AT_ONCE):
            rows = slice(start, start + _ROWS_AT_ONCE)
            moments[module][rows, start:].addmm_(tokens[:, rows].T, tokens[:, start:])

    heads = [module for module in modules if holds_head(model, module)]
    hooks = [module.register_forward_pre_hook(take) for module in modules if module not in heads]
    for head in heads:
        hooks.append(model.base_model.register_forward_hook(lambda _, __, output, head=head: add(head, output[0])))
    with hooked(hooks):
        forward_passes(model, calibration, on_batch, needed=() if heads else modules, resuming=resuming)
    for found in {id(of_module): of_module for of_module in moments.values()}.values():
        for end in range(_ROWS_AT_ONCE, len(found), _ROWS_AT_ONCE):
            rows = slice(end - _ROWS_AT_ONCE, end)
            found[end:, rows] = found[rows, end:].T
        require_finite(found)
    return moments


def holds_head(model: PreTrainedModel, module: nn.Module) -> bool:
    """Whether ``module`` is the head of ``model``, or the embeddings that the head is tied to."""
    head = model.get_output_embeddings()
    return head is not None and getattr(module, "weight", None) is head.weight

"""The modules of :mod:`qpruner_core.precisions.int8` and :mod:`qpruner_core.precisions.llm_int8`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, cast

import bitsandbytes as bnb
import torch
from torch.nn.functional import linear

_ROWS_AT_ONCE = 4096
"""Bytes of the part of a weight in 16 bits."""


class Int8Linear(bnb.nn.Linear8bitLt):
    """bitsandbytes' ``Linear8bitLt``, which PEFT supports, multiplying in the dtype of its inputs.

    int8 numbers are exact in bfloat16, and rows are scaled after multiplication. Rows are processed in parts: all rows
    of a head in 16 bits would take more than a layer.
    """

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """``[..., out]`` for ``inputs [..., in]``, of their dtype."""
        if self.weight.CB is not None:
            self.init_8bit_state()
        return cast(torch.Tensor, Int8MatMul.apply(inputs, self.bias, self.state))


class Int8MatMul(torch.autograd.Function):
    """``inputs · weightᵀ + bias`` that keeps nothing for the gradient but the weights themselves.

    bitsandbytes' function keeps the inputs out of sight of activation checkpointing, and makes a 16-bit copy of the
    whole weight for the gradient.
    """

    @staticmethod
    def forward(ctx: Any, inputs: torch.Tensor, bias: torch.Tensor | None, state: bnb.MatmulLtState) -> torch.Tensor:
        ctx.state = state
        output = inputs.new_empty(*inputs.shape[:-1], len(state.CB))
        for rows in _parts(state):
            product = linear(inputs, state.CB[rows].to(inputs.dtype)) * (state.SCB[rows] / 127)
            output[..., rows] = product if bias is None else product + bias[rows]
        return output

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor | None, torch.Tensor | None, None]:
        wanted, of_bias, _ = ctx.needs_input_grad
        of_inputs = None
        if wanted:
            of_inputs = gradient.new_zeros(*gradient.shape[:-1], ctx.state.CB.shape[1])
            for rows in _parts(ctx.state):
                scaled = (gradient[..., rows] * (ctx.state.SCB[rows] / 127)).to(gradient.dtype)
                of_inputs += scaled @ ctx.state.CB[rows].to(gradient.dtype)
        return of_inputs, gradient.flatten(0, -2).sum(0) if of_bias else None, None


def _parts(state: bnb.MatmulLtState) -> Iterator[slice]:
    return (slice(start, start + _ROWS_AT_ONCE) for start in range(0, len(state.CB), _ROWS_AT_ONCE))


class LlmInt8Linear(Int8Linear):
    """Multiplies int8 with int8, as bitsandbytes' own ``Linear8bitLt``."""

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """``[..., out]`` for ``inputs [..., in]``, of their dtype; each token is rounded to 8 bits."""
        if not torch.is_grad_enabled():
            return cast(torch.Tensor, bnb.nn.Linear8bitLt.forward(self, inputs))
        if self.weight.CB is not None:
            self.init_8bit_state()
        return cast(torch.Tensor, _LlmInt8MatMul.apply(inputs, self.bias, self.state))


class _LlmInt8MatMul(Int8MatMul):
    """The gradient ignores the rounding of inputs (straight-through), like :meth:`LlmInt8.round_input`."""

    @staticmethod
    def forward(ctx: Any, inputs: torch.Tensor, bias: torch.Tensor | None, state: bnb.MatmulLtState) -> torch.Tensor:
        ctx.state = state
        state.is_training = False  # otherwise it would not round inputs on a CPU
        bias = None if bias is None else bias.to(inputs.dtype)
        return cast(torch.Tensor, bnb.matmul(inputs, state.CB, bias=bias, state=state))

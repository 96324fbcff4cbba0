"""8 bits: weights in int8 with one absolute maximum a row, multiplied in 16 bits."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, cast

import bitsandbytes as bnb
import torch
from torch import nn
from torch.nn.functional import linear

from qpruner_core.precisions.base import TINY, Grid, Tensors

_ROWS_AT_ONCE = 4096
"""Of a weight, in 16 or 32 bits: a table of embeddings has hundreds of thousands."""


class Int8:
    """int8 rows, each with a float32 scale, under the names of bitsandbytes; the inputs stay as they are."""

    bits = 8

    def weight_bytes(self, rows: int, columns: int) -> int:
        """One byte a weight."""
        return rows * columns

    def constant_bytes(self, rows: int, columns: int) -> int:
        """A float32 a row."""
        return 4 * rows

    def encode(self, weight: torch.Tensor) -> Tensors:
        """``weight`` int8 ``[out, in]`` and ``SCB`` float32 ``[out]``, the rows' absolute maxima."""
        parts = [
            bnb.functional.int8_vectorwise_quant(rows.to(torch.float16).contiguous())
            for rows in weight.split(_ROWS_AT_ONCE)
        ]
        quantized, scales = (torch.cat([part[place] for part in parts]) for place in (0, 1))
        return {"weight": quantized, "SCB": scales.to(torch.float32)}

    def decode(self, tensors: Tensors) -> torch.Tensor:
        """``weight · SCB / 127``."""
        require_int8(tensors)
        weight, scales = tensors["weight"], tensors["SCB"].unsqueeze(1) / 127
        values = torch.empty(weight.shape, dtype=torch.bfloat16, device=weight.device)
        for place in (slice(start, start + _ROWS_AT_ONCE) for start in range(0, len(weight), _ROWS_AT_ONCE)):
            values[place] = weight[place].float() * scales[place]
        return values

    def constants(self, weight: torch.Tensor) -> Tensors:
        """``SCB`` alone."""
        return {"SCB": weight.to(torch.float16).abs().amax(dim=1).float()}

    def grid(self, tensors: Tensors) -> Grid | None:
        """255 steps between plus and minus the maximum of the row."""
        scale = tensors["SCB"].float().unsqueeze(1) / 127
        return _WholeNumbers(torch.arange(-127.0, 128.0, device=scale.device), scale)

    def with_codes(self, tensors: Tensors, codes: torch.Tensor) -> Tensors:
        """``tensors`` with the steps of these numbers, of which 127 is zero."""
        return tensors | {"weight": (codes.short() - 127).to(torch.int8)}

    def round_input(self, inputs: torch.Tensor) -> torch.Tensor:
        """As they are."""
        return inputs

    def build(self, tensors: Tensors, bias: torch.Tensor | None) -> nn.Module:
        """An :class:`Int8Linear` on the stored rows."""
        return self._on(Int8Linear, tensors, bias)

    def _on(self, module: type[nn.Module], tensors: Tensors, bias: torch.Tensor | None) -> nn.Module:
        require_int8(tensors)
        rows, columns = tensors["weight"].shape
        built: Any = module(columns, rows, bias=False, has_fp16_weights=False, device="meta")
        built.weight = bnb.nn.Int8Params(
            tensors["weight"],
            requires_grad=False,
            has_fp16_weights=False,
            CB=tensors["weight"],
            SCB=tensors["SCB"],
        )
        if bias is not None:
            built.bias = nn.Parameter(bias, requires_grad=False)
        return cast(nn.Module, built)


class _WholeNumbers(Grid):
    def nearest(self, values: torch.Tensor) -> torch.Tensor:
        """As of any grid, without looking for it."""
        return values.round().clamp_(-127, 127).add_(127)

    def at(self, numbers: torch.Tensor) -> torch.Tensor:
        """As of any grid."""
        return numbers - 127

    def rounded(self, weight: torch.Tensor) -> torch.Tensor:
        """As of any grid."""
        return (weight / self.scale.clamp(min=TINY)).round_().clamp_(-127, 127).mul_(self.scale)


class Int8Linear(bnb.nn.Linear8bitLt):
    """bitsandbytes' ``Linear8bitLt``, which PEFT knows, that multiplies in the dtype of its inputs.

    The numbers in int8 are exact in bfloat16, and rows are scaled once multiplied. A part of the rows at a time: of a
    head, all of them in 16 bits would be more than a layer takes.
    """

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """``[..., out]`` for ``inputs [..., in]``, of their dtype."""
        if self.weight.CB is not None:
            self.init_8bit_state()
        return cast(torch.Tensor, Int8MatMul.apply(inputs, self.bias, self.state))


class Int8MatMul(torch.autograd.Function):
    """``inputs · weightᵀ + bias`` that keeps nothing for the gradient but the weights themselves.

    bitsandbytes' function keeps the inputs where activation checkpointing does not see them, and makes a 16-bit copy of
    the whole weight for the gradient.
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


def require_int8(tensors: Tensors) -> None:
    """Raise ``ValueError`` unless each row of int8 has its maximum: what a file says may be anything."""
    weight, maxima = tensors["weight"], tensors["SCB"]
    if weight.dtype != torch.int8 or weight.ndim != 2 or maxima.shape != weight.shape[:1]:
        raise ValueError("SCB is not one number for each row of an int8 weight")

"""8 bits: one absolute maximum a row (LLM.int8(), arXiv 2208.07339), by bitsandbytes."""

from __future__ import annotations

from typing import Any, cast

import bitsandbytes as bnb
import torch
from torch import nn

from qpruner_core.precisions.base import Grid, Tensors

_ROWS_AT_ONCE = 4096
"""Of a weight in 16 bits, in the gradient."""


class Int8:
    """bitsandbytes ``Linear8bitLt``: int8 rows, each with a float32 scale; activations quantized as they come."""

    bits = 8

    def weight_bytes(self, rows: int, columns: int) -> int:
        """One byte a weight."""
        return rows * columns

    def constant_bytes(self, rows: int, columns: int) -> int:
        """A float32 a row."""
        return 4 * rows

    def encode(self, weight: torch.Tensor) -> Tensors:
        """``weight`` int8 ``[out, in]`` and ``SCB`` float32 ``[out]``, the rows' absolute maxima."""
        quantized, scales, _ = bnb.functional.int8_vectorwise_quant(weight.to(torch.float16).contiguous())
        return {"weight": quantized, "SCB": scales.to(torch.float32)}

    def decode(self, tensors: Tensors) -> torch.Tensor:
        """``weight · SCB / 127``."""
        require_int8(tensors)
        return (tensors["weight"].float() * (tensors["SCB"].unsqueeze(1) / 127)).to(torch.bfloat16)

    def grid(self, tensors: Tensors) -> Grid | None:
        """255 steps between plus and minus the maximum of the row."""
        scale = tensors["SCB"].float().unsqueeze(1) / 127
        return Grid(torch.arange(-127.0, 128.0, device=scale.device), scale)

    def with_codes(self, tensors: Tensors, codes: torch.Tensor) -> Tensors:
        """``tensors`` with the steps of these numbers, of which 127 is zero."""
        return tensors | {"weight": (codes - 127).to(torch.int8)}

    def round_input(self, inputs: torch.Tensor) -> torch.Tensor:
        """Each token rounded to 255 steps between plus and minus its absolute maximum, as ``Linear8bitLt`` does."""
        scale = inputs.detach().abs().amax(dim=-1, keepdim=True).float().clamp_min(1e-12) / 127
        rounded = ((inputs.detach().float() / scale).round() * scale).to(inputs.dtype)
        return inputs + (rounded - inputs.detach())

    def build(self, tensors: Tensors, bias: torch.Tensor | None) -> nn.Module:
        """A ``Linear8bitLt`` on the stored rows, without outlier decomposition."""
        require_int8(tensors)
        rows, columns = tensors["weight"].shape
        linear = Int8Linear(columns, rows, bias=False, has_fp16_weights=False, device="meta")
        linear.weight = bnb.nn.Int8Params(
            tensors["weight"],
            requires_grad=False,
            has_fp16_weights=False,
            CB=tensors["weight"],
            SCB=tensors["SCB"],
        )
        if bias is not None:
            linear.bias = nn.Parameter(bias, requires_grad=False)
        return linear


class Int8Linear(bnb.nn.Linear8bitLt):
    """bitsandbytes' ``Linear8bitLt`` with a gradient of its own for what it is given.

    bitsandbytes' keeps the inputs where activation checkpointing does not see them, and makes a 16-bit copy of the
    whole weight, which of a head is more than all layers keep.
    """

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """``[..., out]`` for ``inputs [..., in]``, of their dtype; each token is rounded to 8 bits."""
        if not torch.is_grad_enabled():
            return cast(torch.Tensor, super().forward(inputs))
        if self.weight.CB is not None:
            self.init_8bit_state()
        return cast(torch.Tensor, _Int8MatMul.apply(inputs, self.bias, self.state))


class _Int8MatMul(torch.autograd.Function):
    """The gradient takes the rounding of inputs as not there (straight through), as :meth:`Int8.round_input` does."""

    @staticmethod
    def forward(ctx: Any, inputs: torch.Tensor, bias: torch.Tensor | None, state: bnb.MatmulLtState) -> torch.Tensor:
        ctx.state = state
        state.is_training = False  # or on a CPU it would not round inputs
        bias = None if bias is None else bias.to(inputs.dtype)
        return cast(torch.Tensor, bnb.matmul(inputs, state.CB, bias=bias, state=state))

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor | None, torch.Tensor | None, None]:
        wanted, of_bias, _ = ctx.needs_input_grad
        codes, scales = ctx.state.CB, ctx.state.SCB.unsqueeze(1) / 127
        of_inputs = gradient.new_zeros(*gradient.shape[:-1], codes.shape[1]) if wanted else None
        for start in range(0, len(codes) if wanted else 0, _ROWS_AT_ONCE):
            rows = slice(start, start + _ROWS_AT_ONCE)
            of_inputs += gradient[..., rows] @ (codes[rows] * scales[rows]).to(gradient.dtype)
        return of_inputs, gradient.flatten(0, -2).sum(0) if of_bias else None, None


def require_int8(tensors: Tensors) -> None:
    """Raise ``ValueError`` unless each row of int8 has its maximum: what a file says may be anything."""
    weight, maxima = tensors["weight"], tensors["SCB"]
    if weight.dtype != torch.int8 or weight.ndim != 2 or maxima.shape != weight.shape[:1]:
        raise ValueError("SCB is not one number for each row of an int8 weight")

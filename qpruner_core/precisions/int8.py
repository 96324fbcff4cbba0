"""8 bits: one absolute maximum a row (LLM.int8(), arXiv 2208.07339), by bitsandbytes."""

from __future__ import annotations

import bitsandbytes as bnb
import torch
from torch import nn

from qpruner_core.precisions.base import Grid, Tensors


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
        linear: nn.Linear = bnb.nn.Linear8bitLt(columns, rows, bias=False, has_fp16_weights=False, device="meta")
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


def require_int8(tensors: Tensors) -> None:
    """Raise ``ValueError`` unless each row of int8 has its maximum: what a file says may be anything."""
    weight, maxima = tensors["weight"], tensors["SCB"]
    if weight.dtype != torch.int8 or weight.ndim != 2 or maxima.shape != weight.shape[:1]:
        raise ValueError("SCB is not one number for each row of an int8 weight")

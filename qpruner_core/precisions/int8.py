"""8 bits: weights in int8 with one absolute maximum per row, multiplied in 16 bits."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import nn

from qpruner_core.precision_names import BITS_PER_WEIGHT
from qpruner_core.precisions.base import Grid, SteppedGrid, Tensors
from qpruner_core.precisions.library import bnb

_ROWS_AT_ONCE = 4096
"""Weights that are quantized at once, in 16 or 32 bits: a table of embeddings has hundreds of thousands of rows."""


class Int8:
    """int8 rows, each with a float32 scale, under the names of bitsandbytes; inputs are unchanged."""

    name = "int8"
    bits_per_weight = BITS_PER_WEIGHT[name]
    lossless = False

    def accepts(self, rows: int, columns: int) -> bool:
        """Any shape."""
        return True

    def weight_bytes(self, rows: int, columns: int) -> int:
        """One byte per weight."""
        return rows * columns

    def constant_bytes(self, rows: int, columns: int) -> int:
        """One float32 per row."""
        return 4 * rows

    def encode(self, weight: torch.Tensor, importance: torch.Tensor | None = None) -> Tensors:
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

    def constants(self, weight: torch.Tensor, importance: torch.Tensor | None = None) -> Tensors:
        """``SCB`` alone."""
        return {"SCB": weight.to(torch.float16).abs().amax(dim=1).float()}

    def grid(self, tensors: Tensors) -> Grid | None:
        """255 steps between plus and minus the maximum of the row."""
        scale = tensors["SCB"].float().unsqueeze(1) / 127
        return SteppedGrid(torch.arange(-127.0, 128.0, device=scale.device), scale)

    def with_codes(self, tensors: Tensors, codes: torch.Tensor) -> Tensors:
        """``tensors`` with the steps of these numbers; number 127 is zero."""
        return tensors | {"weight": (codes.short() - 127).to(torch.int8)}

    def scales(self, tensors: Tensors) -> Tensors:
        """``SCB``, float32 ``[out]``."""
        return {"SCB": tensors["SCB"].float()}

    def with_scales(self, tensors: Tensors, scales: Tensors) -> Tensors:
        """``tensors`` with these unrounded maxima."""
        return tensors | {"SCB": scales["SCB"].detach().float()}

    def values_with(self, tensors: Tensors, scales: Tensors) -> torch.Tensor:
        """``weight · SCB / 127``, float32."""
        require_int8(tensors)
        return tensors["weight"].float() * (scales["SCB"].unsqueeze(1) / 127)

    def round_input(self, inputs: torch.Tensor) -> torch.Tensor:
        """The unchanged inputs."""
        return inputs

    def build(self, tensors: Tensors, bias: torch.Tensor | None) -> nn.Module:
        """An :class:`~qpruner_core.precisions.int8_linear.Int8Linear` on the stored rows."""
        from qpruner_core.precisions.int8_linear import Int8Linear

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


def require_int8(tensors: Tensors) -> None:
    """Raise ``ValueError`` unless each row of int8 has its maximum: a file may contain anything."""
    weight, maxima = tensors["weight"], tensors["SCB"]
    if weight.dtype != torch.int8 or weight.ndim != 2 or maxima.shape != weight.shape[:1]:
        raise ValueError("SCB is not one number for each row of an int8 weight")

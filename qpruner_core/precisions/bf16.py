"""16 bits: the unchanged weight."""

from __future__ import annotations

import torch
from torch import nn

from qpruner_core.precision_names import BITS_PER_WEIGHT
from qpruner_core.precisions.base import Grid, Tensors


class Bf16:
    """bfloat16, unquantized."""

    name = "bf16"
    bits_per_weight = BITS_PER_WEIGHT[name]
    lossless = True

    def accepts(self, rows: int, columns: int) -> bool:
        """Any shape."""
        return True

    def weight_bytes(self, rows: int, columns: int) -> int:
        """Two bytes per weight."""
        return 2 * rows * columns

    def constant_bytes(self, rows: int, columns: int) -> int:
        """None."""
        return 0

    def encode(self, weight: torch.Tensor, importance: torch.Tensor | None = None) -> Tensors:
        """The weight itself."""
        return {"weight": weight.to(torch.bfloat16).contiguous()}

    def decode(self, tensors: Tensors) -> torch.Tensor:
        """The weight itself. Raises :class:`ValueError` if it is quantized."""
        if not tensors["weight"].is_floating_point():
            raise ValueError(f"weights of dtype {tensors['weight'].dtype} are not in 16 bits")
        return tensors["weight"]

    def constants(self, weight: torch.Tensor, importance: torch.Tensor | None = None) -> Tensors:
        """The same: there are no codes to leave out."""
        return self.encode(weight, importance)

    def grid(self, tensors: Tensors) -> Grid | None:
        """None: weights are not quantized."""
        return None

    def with_codes(self, tensors: Tensors, codes: torch.Tensor) -> Tensors:
        """There are none."""
        raise TypeError("16-bit weights have no codes")

    def round_input(self, inputs: torch.Tensor) -> torch.Tensor:
        """The unchanged inputs."""
        return inputs

    def build(self, tensors: Tensors, bias: torch.Tensor | None) -> nn.Module:
        """A plain linear module."""
        rows, columns = self.decode(tensors).shape
        linear = nn.Linear(columns, rows, bias=False, device="meta")
        linear.weight = nn.Parameter(tensors["weight"], requires_grad=False)
        if bias is not None:
            linear.bias = nn.Parameter(bias, requires_grad=False)
        return linear

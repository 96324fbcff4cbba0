"""16-bit floats, with almost no rounding."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from gguf import GGMLQuantizationType
from torch import nn

from qpruner_core.precisions.base import Grid, Tensors
from qpruner_core.precisions.ggml.block_format import LARGEST_F16, plain_linear


@dataclass(frozen=True)
class SixteenBits:
    """``{"weight": [out, in]}`` in the float ``dtype`` of ggml's ``type``.

    float16 holds every bfloat16 number between 2⁻¹⁴ and 65504 exactly. Larger ones become ±65504, never infinite;
    smaller ones lose bits, and below 2⁻²⁵ become zero. :meth:`exact` tells whether a weight is stored exactly.
    """

    name: str
    type: GGMLQuantizationType
    dtype: torch.dtype

    bits_per_weight = 16.0
    lossless = True
    block = 1
    block_bytes = 2

    def accepts(self, rows: int, columns: int) -> bool:
        """Any shape."""
        return rows > 0 and columns > 0

    def weight_bytes(self, rows: int, columns: int) -> int:
        """Two bytes per weight."""
        return 2 * rows * columns

    def constant_bytes(self, rows: int, columns: int) -> int:
        """None."""
        return 0

    def encode(self, weight: torch.Tensor, importance: torch.Tensor | None = None) -> Tensors:
        """The weight in the format's dtype."""
        stored = weight.to(self.dtype).contiguous()
        # Clamped after conversion to float16: bfloat16 has no number between 65280 and 65536
        return {"weight": stored.clamp(-LARGEST_F16, LARGEST_F16) if self.dtype is torch.float16 else stored}

    def exact(self, weight: torch.Tensor) -> bool:
        """Whether this ``weight`` is stored without rounding."""
        return torch.equal(self.encode(weight)["weight"].to(weight.dtype), weight)

    def constants(self, weight: torch.Tensor, importance: torch.Tensor | None = None) -> Tensors:
        """The same: there are no codes to leave out."""
        return self.encode(weight, importance)

    def grid(self, tensors: Tensors) -> Grid | None:
        """None: weights are not quantized."""
        return None

    def with_codes(self, tensors: Tensors, codes: torch.Tensor) -> Tensors:
        """There are none."""
        raise TypeError(f"{self.name} has no codes")

    def decode(self, tensors: Tensors) -> torch.Tensor:
        """The weight in bfloat16."""
        return self._of(tensors).to(torch.bfloat16)

    def values(self, tensors: Tensors) -> torch.Tensor:
        """The weight in float32."""
        return self._of(tensors).float()

    def scales(self, tensors: Tensors) -> Tensors:
        """None."""
        return {}

    def with_scales(self, tensors: Tensors, scales: Tensors) -> Tensors:
        """``tensors``: there are no scales."""
        return tensors

    def values_with(self, tensors: Tensors, scales: Tensors) -> torch.Tensor:
        """:meth:`values`: there are no scales."""
        return self.values(tensors)

    def round_input(self, inputs: torch.Tensor) -> torch.Tensor:
        """The unchanged inputs."""
        return inputs

    def build(self, tensors: Tensors, bias: torch.Tensor | None) -> nn.Module:
        """A plain linear module in bfloat16."""
        return plain_linear(self.decode(tensors), bias)

    def _of(self, tensors: Tensors) -> torch.Tensor:
        if tensors["weight"].dtype != self.dtype:
            raise ValueError(f"weights of dtype {tensors['weight'].dtype} are not {self.name}")
        return tensors["weight"]


F16 = SixteenBits("f16", GGMLQuantizationType.F16, torch.float16)
BF16 = SixteenBits("bf16", GGMLQuantizationType.BF16, torch.bfloat16)

"""Eight bits in weights and inputs (W8A8), which GPUs and CPUs multiply in 8 bits."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import torch
from torch import nn

from qpruner_core.precisions.base import TINY, Grid, Tensors
from qpruner_core.precisions.bf16 import Bf16
from qpruner_core.precisions.compressed_tensors.grids import E4M3_MAX, e4m3, float8_at, whole_numbers
from qpruner_core.precisions.compressed_tensors.packed import MULTIPLE, int_weights
from qpruner_core.precisions.compressed_tensors.scale_search import best_scales, stored


class _EightBits(ABC):
    """A weight in 8 bits, one bfloat16 scale per output; inputs are rounded per token at run time.

    Tensors are those of the library: ``weight`` ``[out, in]`` and ``weight_scale`` bfloat16 ``[out, 1]``.
    """

    name: str
    format: str
    kind: str
    dtype: torch.dtype
    largest: float
    lossless = False
    bits = 8
    bits_per_weight = 8.0

    def scheme(self) -> dict[str, Any]:
        """Entry of ``config_groups`` for modules in this precision."""
        weights = {**int_weights(8, None), "type": self.kind}
        inputs = {"num_bits": 8, "type": self.kind, "symmetric": True, "dynamic": True, "strategy": "token"}
        return {"weights": weights, "input_activations": inputs, "format": self.format}

    def accepts(self, rows: int, columns: int) -> bool:
        """Multiples of 32 in both dimensions; kernels require 16."""
        return rows % MULTIPLE == columns % MULTIPLE == 0

    def weight_bytes(self, rows: int, columns: int) -> int:
        """One byte per weight."""
        return rows * columns

    def constant_bytes(self, rows: int, columns: int) -> int:
        """One scale per output."""
        return 2 * rows

    def encode(self, weight: torch.Tensor, importance: torch.Tensor | None = None) -> Tensors:
        """:meth:`constants`, and each weight at its nearest level."""
        constants = self.constants(weight, importance)
        scaled = weight.float() / constants["weight_scale"].float()
        return constants | {"weight": self.rounded(scaled).to(self.dtype)}

    def constants(self, weight: torch.Tensor, importance: torch.Tensor | None = None) -> Tensors:
        """The scales.

        Raises:
            ValueError: the format does not support a ``weight`` of this shape; see :meth:`accepts`.
        """
        rows, columns = weight.shape
        if not self.accepts(rows, columns):
            raise ValueError(f"{self.name} does not support a weight of {rows} x {columns}")
        return {"weight_scale": self.find_scales(weight, importance)}

    @abstractmethod
    def find_scales(self, weight: torch.Tensor, importance: torch.Tensor | None) -> torch.Tensor:
        """bfloat16 scales ``[out, 1]``."""

    @abstractmethod
    def rounded(self, scaled: torch.Tensor) -> torch.Tensor:
        """The nearest level of each of ``scaled``, float32."""

    def decode(self, tensors: Tensors) -> torch.Tensor:
        """The bfloat16 product of weight and scale.

        Raises:
            ValueError: the tensors do not match each other.
        """
        return self.values(tensors).to(torch.bfloat16)

    def scales(self, tensors: Tensors) -> Tensors:
        """``weight_scale`` alone, float32 ``[out, 1]``."""
        return {"weight_scale": tensors["weight_scale"].float()}

    def with_scales(self, tensors: Tensors, scales: Tensors) -> Tensors:
        """``tensors`` with these ``scales``, rounded to bfloat16."""
        return tensors | {"weight_scale": stored(scales["weight_scale"].detach()).to(torch.bfloat16)}

    def values(self, tensors: Tensors) -> torch.Tensor:
        """The values of the tensors, float32 ``[out, in]``; raises as :meth:`decode` does."""
        return self.values_with(tensors, self.scales(tensors))

    def values_with(self, tensors: Tensors, scales: Tensors) -> torch.Tensor:
        """:meth:`values` with these ``scales [out, 1]``; differentiable in them."""
        weight, kept = tensors["weight"], scales["weight_scale"]
        if weight.dtype != self.dtype or weight.ndim != 2 or kept.shape != (len(weight), 1):
            raise ValueError(f"weight_scale is not one number for each row of a weight in {self.dtype}")
        return weight.float() * kept

    def round_input(self, inputs: torch.Tensor) -> torch.Tensor:
        """Each token's inputs ``[..., in]`` at their nearest levels, with the largest at the last level; gradients
        pass."""
        largest = inputs.detach().abs().amax(dim=-1, keepdim=True).float()
        scale = (largest / self.largest).clamp_min(TINY)
        rounded = (self.rounded(inputs.detach().float() / scale) * scale).to(inputs.dtype)
        return inputs + (rounded - inputs.detach())

    def build(self, tensors: Tensors, bias: torch.Tensor | None) -> nn.Module:
        """A bfloat16 linear module of :meth:`decode` that rounds its inputs."""
        linear = Bf16().build({"weight": self.decode(tensors)}, bias)
        linear.register_forward_pre_hook(lambda _, arguments: (self.round_input(arguments[0]), *arguments[1:]))
        return linear


class Int8W8A8(_EightBits):
    """int8 weights and inputs; the only 8 bits that vLLM has CPU kernels for."""

    name, format, kind, dtype, largest = "int8_w8a8", "int-quantized", "int", torch.int8, 127.0

    def find_scales(self, weight: torch.Tensor, importance: torch.Tensor | None) -> torch.Tensor:
        """Scales of the smallest weighted error."""
        return best_scales(weight, 8, weight.shape[1], importance)

    def rounded(self, scaled: torch.Tensor) -> torch.Tensor:
        """The nearest whole number from -128 to 127."""
        return scaled.round().clamp_(-128, 127)

    def grid(self, tensors: Tensors) -> Grid | None:
        """256 whole numbers times the scale of the output."""
        return whole_numbers(8, self.scales(tensors)["weight_scale"])

    def with_codes(self, tensors: Tensors, codes: torch.Tensor) -> Tensors:
        """``tensors`` with these numbers of the levels ``[out, in]``."""
        return tensors | {"weight": (codes.short() - 128).to(torch.int8)}


class Fp8(_EightBits):
    """``float8_e4m3fn`` weights and inputs."""

    name, format, kind, dtype, largest = "fp8", "float-quantized", "float", torch.float8_e4m3fn, E4M3_MAX

    def find_scales(self, weight: torch.Tensor, importance: torch.Tensor | None) -> torch.Tensor:
        """Absolute maxima at the largest level: steps are relative, so another scale gains nothing."""
        return stored(weight.abs().amax(dim=1, keepdim=True).float() / self.largest).to(torch.bfloat16)

    def rounded(self, scaled: torch.Tensor) -> torch.Tensor:
        """The nearest ``float8_e4m3fn``, -448 to 448."""
        return scaled.clamp(-self.largest, self.largest).to(self.dtype).float()

    def grid(self, tensors: Tensors) -> Grid | None:
        """253 values times the scale of the output."""
        return e4m3(self.scales(tensors)["weight_scale"])

    def with_codes(self, tensors: Tensors, codes: torch.Tensor) -> Tensors:
        """``tensors`` with these numbers of the levels ``[out, in]``."""
        return tensors | {"weight": float8_at(codes)}

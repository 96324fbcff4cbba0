"""Whole numbers of 2 to 8 bits with one scale per group of inputs: ``pack-quantized`` (W4A16 and its like)."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from qpruner_core.precisions.base import Grid, Tensors
from qpruner_core.precisions.bf16 import Bf16
from qpruner_core.precisions.compressed_tensors.grids import whole_numbers
from qpruner_core.precisions.compressed_tensors.packing import pack, unpack, words
from qpruner_core.precisions.compressed_tensors.scale_search import best_scales, stored

MULTIPLE = 32
"""Rows and columns are multiples of this: vLLM's CPU kernel requires it, and packed rows then end with a word. GPU
kernels pad as needed."""


class PackedInt:
    """Symmetric integers of ``bits`` bits; a bfloat16 scale per ``group`` of inputs, or per output (``None``).

    Tensors are those of the library: ``weight_packed`` int32 ``[out, in · bits / 32]``, ``weight_scale`` bfloat16
    ``[out, in / group]``, ``weight_shape`` int64 ``[2]``.
    """

    format = "pack-quantized"
    lossless = False

    def __init__(self, bits: int, group: int | None) -> None:
        self.bits, self.group = bits, group
        self.name = f"int{bits}_channel" if group is None else f"int{bits}_g{group}"
        self.bits_per_weight = bits + (0 if group is None else 16 / group)

    def scheme(self) -> dict[str, Any]:
        """Entry of ``config_groups`` for modules in this precision."""
        return {"weights": int_weights(self.bits, self.group), "input_activations": None, "format": self.format}

    def accepts(self, rows: int, columns: int) -> bool:
        """Whole groups, and multiples of 32 in both dimensions."""
        return rows % MULTIPLE == columns % MULTIPLE == columns % self._group(columns) == 0

    def weight_bytes(self, rows: int, columns: int) -> int:
        """The packed words."""
        return 4 * rows * words(columns, self.bits)

    def constant_bytes(self, rows: int, columns: int) -> int:
        """The scales, and the shape."""
        return 2 * rows * (columns // self._group(columns)) + 16

    def encode(self, weight: torch.Tensor, importance: torch.Tensor | None = None) -> Tensors:
        """:meth:`constants`, and each weight at its nearest level.

        Raises:
            ValueError: the format does not support a ``weight`` of this shape; see :meth:`accepts`.
        """
        constants = self.constants(weight, importance)
        half = 2 ** (self.bits - 1)
        numbers = torch.empty(weight.shape, dtype=torch.uint8, device=weight.device)
        scales = constants["weight_scale"].float().repeat_interleave(self._group(weight.shape[1]), dim=1)
        for rows, scale, place in zip(weight.split(_ROWS), scales.split(_ROWS), numbers.split(_ROWS), strict=True):
            place.copy_((rows.float() / scale).round_().clamp_(-half, half - 1).add_(half))
        return self.with_codes(constants, numbers)

    def constants(self, weight: torch.Tensor, importance: torch.Tensor | None = None) -> Tensors:
        """Scales found by :func:`~qpruner_core.precisions.compressed_tensors.scale_search.best_scales`, and the shape.

        Raises:
            ValueError: as :meth:`encode`.
        """
        rows, columns = weight.shape
        if not self.accepts(rows, columns):
            raise ValueError(f"{self.name} does not support a weight of {rows} x {columns}")
        scales = best_scales(weight, self.bits, self._group(columns), importance)
        return {"weight_scale": scales, "weight_shape": torch.tensor([rows, columns], device=weight.device)}

    def grid(self, tensors: Tensors) -> Grid | None:
        """Every number of the bits, times the scale of its group."""
        columns = int(tensors["weight_shape"][1])
        return whole_numbers(self.bits, tensors["weight_scale"].float().repeat_interleave(self._group(columns), dim=1))

    def with_codes(self, tensors: Tensors, codes: torch.Tensor) -> Tensors:
        """``tensors`` with these numbers of the levels ``[out, in]``."""
        return tensors | {"weight_packed": pack(codes, self.bits)}

    def decode(self, tensors: Tensors) -> torch.Tensor:
        """The bfloat16 product of number and scale, as in the library and in Marlin.

        Raises:
            ValueError: the tensors do not match each other.
        """
        return self.values(tensors).to(torch.bfloat16)

    def scales(self, tensors: Tensors) -> Tensors:
        """``weight_scale`` alone, float32 ``[out, in / group]``."""
        return {"weight_scale": tensors["weight_scale"].float()}

    def with_scales(self, tensors: Tensors, scales: Tensors) -> Tensors:
        """``tensors`` with these ``scales``, rounded to bfloat16."""
        return tensors | {"weight_scale": stored(scales["weight_scale"].detach()).to(torch.bfloat16)}

    def values(self, tensors: Tensors) -> torch.Tensor:
        """The values of the tensors, float32 ``[out, in]``; raises as :meth:`decode` does."""
        return self.values_with(tensors, self.scales(tensors))

    def values_with(self, tensors: Tensors, scales: Tensors) -> torch.Tensor:
        """:meth:`values` with these ``scales [out, in / group]``; differentiable in them."""
        packed, shape, kept = tensors["weight_packed"], tensors["weight_shape"], scales["weight_scale"]
        if shape.shape != (2,) or shape.dtype != torch.int64:
            raise ValueError("weight_shape is not two numbers")
        rows, columns = shape.tolist()
        group = self._group(columns)
        fits = packed.ndim == 2 and len(packed) == rows and columns % group == 0
        if not fits or kept.shape != (rows, columns // group):
            raise ValueError(f"weight_packed and weight_scale do not match a weight of {rows} x {columns}")
        numbers = unpack(packed, self.bits, columns).float().sub_(2 ** (self.bits - 1))
        return (numbers.view(rows, -1, group) * kept.unsqueeze(2)).view(rows, columns)

    def round_input(self, inputs: torch.Tensor) -> torch.Tensor:
        """The unchanged inputs."""
        return inputs

    def build(self, tensors: Tensors, bias: torch.Tensor | None) -> nn.Module:
        """A bfloat16 linear module of :meth:`decode`."""
        return Bf16().build({"weight": self.decode(tensors)}, bias)

    def _group(self, columns: int) -> int:
        return max(columns, 1) if self.group is None else self.group


_ROWS = 1024
"""Weights rounded at once: in float32 they take twice the memory of the weight."""


def int_weights(bits: int, group: int | None) -> dict[str, Any]:
    """The library's ``QuantizationArgs`` of symmetric whole numbers."""
    strategy = {"strategy": "channel"} if group is None else {"strategy": "group", "group_size": group}
    return {"num_bits": bits, "type": "int", "symmetric": True, "dynamic": False, **strategy}

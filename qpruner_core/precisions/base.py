"""What a precision is: how it stores a weight matrix, and the module that computes with it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import torch
from torch import nn

Tensors = dict[str, torch.Tensor]
"""Tensors of one module, under the names that they have in its state dict (``weight``, ``weight.absmax``, …)."""


@dataclass(frozen=True)
class Grid:
    """The values that the entries of a weight ``[out, in]`` can have once its constants are fixed: ``levels [n]``,
    rising, times ``scale`` (of a shape that broadcasts to the weight's); float32."""

    levels: torch.Tensor
    scale: torch.Tensor

    def nearest(self, values: torch.Tensor) -> torch.Tensor:
        """Numbers of the levels (int64) that ``values``, counted in scales, are nearest to."""
        # Counted, because a search would guess each step wrong half of the time, and a processor pays for that
        middles = self._middles.view(-1, *[1] * values.ndim)
        return (values > middles).sum(dim=0)

    @cached_property
    def _middles(self) -> torch.Tensor:
        return (self.levels[1:] + self.levels[:-1]) / 2


class Precision(Protocol):
    """A way to store the weight ``[out, in]`` of a linear module; ``bits`` names it in allocations."""

    bits: int

    def weight_bytes(self, rows: int, columns: int) -> int:
        """Bytes of the stored weight, without constants."""

    def constant_bytes(self, rows: int, columns: int) -> int:
        """Bytes of the quantization constants."""

    def encode(self, weight: torch.Tensor) -> Tensors:
        """Quantize a bfloat16 ``weight``; the result is what a checkpoint holds."""

    def decode(self, tensors: Tensors) -> torch.Tensor:
        """The bfloat16 weight that :meth:`build`'s module multiplies with."""

    def grid(self, tensors: Tensors) -> Grid | None:
        """What the entries of the weight can be with the constants of ``tensors``; ``None``: anything."""

    def with_codes(self, tensors: Tensors, codes: torch.Tensor) -> Tensors:
        """``tensors`` with the levels of these numbers (int64 ``[out, in]``) in place of their own."""

    def round_input(self, inputs: torch.Tensor) -> torch.Tensor:
        """The ``inputs [..., in]`` that :meth:`build`'s module really multiplies with; gradients pass unchanged."""

    def build(self, tensors: Tensors, bias: torch.Tensor | None) -> nn.Module:
        """A module that computes with ``tensors`` as they are."""

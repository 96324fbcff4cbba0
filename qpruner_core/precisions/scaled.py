"""Precisions with trainable constants: values are linear in floats that the format stores exactly."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import torch

from qpruner_core.precisions.base import Precision, Tensors


@runtime_checkable
class ScaledPrecision(Precision, Protocol):
    """A precision that names the floats among its constants. Codes and whole-number constants are fixed."""

    def scales(self, tensors: Tensors) -> Tensors:
        """The floats, each of any shape, as float32; empty if there are none."""

    def with_scales(self, tensors: Tensors, scales: Tensors) -> Tensors:
        """``tensors`` with these ``scales``, rounded to the format, and every other byte unchanged."""

    def values_with(self, tensors: Tensors, scales: Tensors) -> torch.Tensor:
        """The weight, float32 ``[out, in]``, with these unrounded ``scales``; differentiable in them."""

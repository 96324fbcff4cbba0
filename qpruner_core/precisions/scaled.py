"""Precisions whose constants can be trained: values are linear in floats that the format stores as they are."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import torch

from qpruner_core.precisions.base import Precision, Tensors


@runtime_checkable
class ScaledPrecision(Precision, Protocol):
    """A precision that names the floats among its constants. Codes, and constants that are whole numbers, stay."""

    def scales(self, tensors: Tensors) -> Tensors:
        """The floats, each of any shape, as float32; empty where there are none."""

    def with_scales(self, tensors: Tensors, scales: Tensors) -> Tensors:
        """``tensors`` with these ``scales``, rounded as the format stores them, and every other byte as it was."""

    def values_with(self, tensors: Tensors, scales: Tensors) -> torch.Tensor:
        """The weight, float32 ``[out, in]``, with these ``scales`` in place of the stored ones, unrounded; gradients
        reach them."""

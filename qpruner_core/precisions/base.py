"""What a precision is: how it stores a weight matrix, and the module that computes with it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import torch
from torch import nn

Tensors = dict[str, torch.Tensor]
"""Tensors of one module, under the names that they have in its state dict (``weight``, ``weight.absmax``, …)."""


TINY = torch.finfo(torch.float32).tiny
"""Lower clamp of scales that avoids division by zero."""
_AT_ONCE = 4096
_AT_ONCE_ON_GPU = 2**22
"""Values that are compared with all levels at once: what fits a processor's cache, and what keeps a GPU busy."""


@dataclass(frozen=True)
class Grid:
    """The values that the entries of a weight ``[out, in]`` can have once its constants are fixed: ``levels [n]``,
    rising, times ``scale``, plus ``offset`` where there is one (both of a shape that broadcasts to the weight's);
    float32. Scales may be negative or zero."""

    levels: torch.Tensor
    scale: torch.Tensor
    offset: torch.Tensor | None = None

    def nearest(self, values: torch.Tensor) -> torch.Tensor:
        """Numbers of the levels that ``values [n]``, counted in scales from the offset, are nearest to; float32, as
        they are."""
        # Counted, because binary search mispredicts half of its branches, which a processor pays for; in
        # float32, because booleans take four times as long
        above = values.new_empty(len(self._middles), len(values))
        return torch.gt(values, self._middles, out=above).sum(dim=0)

    def at(self, numbers: torch.Tensor) -> torch.Tensor:
        """The levels of these ``numbers [n]``, as :meth:`nearest` answers them."""
        return self.levels.index_select(0, numbers.long())

    def shifted(self, weight: torch.Tensor) -> torch.Tensor:
        """The float32 ``weight [out, in]`` counted from the offset: what is to be a level times the scale."""
        return weight if self.offset is None else weight - self.offset

    def rounded(self, weight: torch.Tensor) -> torch.Tensor:
        """The float32 ``weight [out, in]`` with each entry at its nearest level."""
        values = (self.shifted(weight) / nonzero(self.scale)).flatten()
        at_once = _AT_ONCE_ON_GPU if values.is_cuda else _AT_ONCE
        levels = torch.cat([self.at(self.nearest(part)) for part in values.split(at_once)])
        return self.placed(levels.view(weight.shape))

    def placed(self, levels: torch.Tensor) -> torch.Tensor:
        """The values that ``levels [out, in]`` stand for."""
        values = levels * self.scale
        return values if self.offset is None else values + self.offset

    @cached_property
    def _middles(self) -> torch.Tensor:
        return ((self.levels[1:] + self.levels[:-1]) / 2).unsqueeze(1)


class SteppedGrid(Grid):
    """A grid whose levels are whole numbers that follow each other: the nearest needs no search."""

    def nearest(self, values: torch.Tensor) -> torch.Tensor:
        """As of any grid."""
        return values.round().clamp_(self._lowest, self._lowest + len(self.levels) - 1).sub_(self._lowest)

    def at(self, numbers: torch.Tensor) -> torch.Tensor:
        """As of any grid."""
        return numbers + self._lowest

    def rounded(self, weight: torch.Tensor) -> torch.Tensor:
        """As of any grid."""
        values = self.shifted(weight) / nonzero(self.scale)
        values.round_().clamp_(self._lowest, self._lowest + len(self.levels) - 1).mul_(self.scale)
        return values if self.offset is None else values.add_(self.offset)

    @cached_property
    def _lowest(self) -> float:
        return float(self.levels[0])


def nonzero(scale: torch.Tensor) -> torch.Tensor:
    """``scale`` with its sign, but no nearer to zero than :data:`TINY`: something to divide by."""
    return torch.where(scale.abs() < TINY, TINY, scale)


class Precision(Protocol):
    """A way to store the weight ``[out, in]`` of a linear module.

    ``name``: its identity in settings, allocations and checkpoints. ``bits_per_weight``: nominal size, constants of
    blocks included. ``lossless``: nothing is rounded.
    """

    @property
    def name(self) -> str: ...
    @property
    def bits_per_weight(self) -> float: ...
    @property
    def lossless(self) -> bool: ...

    def accepts(self, rows: int, columns: int) -> bool:
        """Whether a weight of this shape can be stored so."""

    def weight_bytes(self, rows: int, columns: int) -> int:
        """Bytes of the stored weight, without constants."""

    def constant_bytes(self, rows: int, columns: int) -> int:
        """Bytes of the quantization constants."""

    def encode(self, weight: torch.Tensor, importance: torch.Tensor | None = None) -> Tensors:
        """Quantize a bfloat16 ``weight``; the result is what a checkpoint holds. ``importance``: the mean square of
        each input, float32 ``[in]``, for precisions that choose constants by it."""

    def decode(self, tensors: Tensors) -> torch.Tensor:
        """The bfloat16 weight that :meth:`build`'s module multiplies with."""

    def constants(self, weight: torch.Tensor, importance: torch.Tensor | None = None) -> Tensors:
        """What :meth:`encode` stores beside the codes of the entries: all that :meth:`grid` needs."""

    def grid(self, tensors: Tensors) -> Grid | None:
        """Values that the entries of the weight can have with the constants of ``tensors``; ``None``: those of no
        scalar grid (unquantized, or a codebook of vectors)."""

    def with_codes(self, tensors: Tensors, codes: torch.Tensor) -> Tensors:
        """``tensors`` with the levels of these numbers (``[out, in]``, whole) in place of their own, if any."""

    def round_input(self, inputs: torch.Tensor) -> torch.Tensor:
        """The ``inputs [..., in]`` that :meth:`build`'s module really multiplies with; gradients pass unchanged."""

    def build(self, tensors: Tensors, bias: torch.Tensor | None) -> nn.Module:
        """A module that computes with ``tensors`` as they are."""

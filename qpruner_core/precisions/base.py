"""Interface of a precision: how it stores a weight matrix, and the module that computes with it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import ClassVar, Protocol, Self

import torch
from torch import nn

Tensors = dict[str, torch.Tensor]
"""Tensors of one module, under the names in its state dict (``weight``, ``weight.absmax``, …)."""


TINY = torch.finfo(torch.float32).tiny
"""Lower clamp of scales that avoids division by zero."""
_AT_ONCE = 4096
_AT_ONCE_ON_GPU = 2**22
"""Values that are compared with all levels at once: a size that fits a processor's cache and keeps a GPU busy."""


@dataclass(frozen=True)
class Grid:
    """Possible values of the entries of a weight ``[out, in]`` with fixed constants.

    ``levels [n]``, ascending, times ``scale``, plus ``offset`` if there is one (both broadcast to the weight's shape);
    float32. Scales may be negative or zero.
    """

    levels: torch.Tensor
    scale: torch.Tensor
    offset: torch.Tensor | None = None
    whole: ClassVar[bool] = False
    """Whether the levels are consecutive whole numbers."""

    def of_rows(self, rows: slice) -> Self:
        """The grid of these rows of the weight."""
        offset = None if self.offset is None else _rows(self.offset, rows)
        return replace(self, scale=_rows(self.scale, rows), offset=offset)

    def nearest(self, values: torch.Tensor) -> torch.Tensor:
        """Numbers of the nearest levels of ``values [n]``, which are in units of the scale from the offset; returned as
        float32."""
        # Counted, because binary search mispredicts half of its branches; in float32, because
        # booleans take four times as long
        above = values.new_empty(len(self._middles), len(values))
        return torch.gt(values, self._middles, out=above).sum(dim=0)

    def at(self, numbers: torch.Tensor) -> torch.Tensor:
        """The levels of these ``numbers [n]``, as returned by :meth:`nearest`."""
        return self.levels.index_select(0, numbers.long())

    def to_nearest_(self, values: torch.Tensor) -> torch.Tensor:
        """Overwrite each of ``values [n]``, as in :meth:`nearest`, with its nearest level."""
        return values.copy_(self.at(self.nearest(values)))

    def numbers(self, levels: torch.Tensor) -> torch.Tensor:
        """The numbers of these ``levels``, in their shape: the reverse of :meth:`at`."""
        return torch.searchsorted(self.levels, levels.contiguous())

    def shifted(self, weight: torch.Tensor) -> torch.Tensor:
        """The float32 ``weight [out, in]`` minus the offset: the value that level times scale approximates."""
        return weight if self.offset is None else weight - self.offset

    def rounded(self, weight: torch.Tensor) -> torch.Tensor:
        """The float32 ``weight [out, in]`` with each entry at its nearest level."""
        values = (self.shifted(weight) / nonzero(self.scale)).flatten()
        at_once = _AT_ONCE_ON_GPU if values.is_cuda else _AT_ONCE
        levels = torch.cat([self.at(self.nearest(part)) for part in values.split(at_once)])
        return self.placed(levels.view(weight.shape))

    def placed(self, levels: torch.Tensor) -> torch.Tensor:
        """The values of ``levels [out, in]``."""
        values = levels * self.scale
        return values if self.offset is None else values + self.offset

    @cached_property
    def extremes(self) -> tuple[float, float]:
        """The lowest and the highest level."""
        return float(self.levels[0]), float(self.levels[-1])

    @cached_property
    def _middles(self) -> torch.Tensor:
        return ((self.levels[1:] + self.levels[:-1]) / 2).unsqueeze(1)


class SteppedGrid(Grid):
    """A grid of consecutive whole numbers as levels: the nearest needs no search."""

    whole = True

    def nearest(self, values: torch.Tensor) -> torch.Tensor:
        """See :class:`Grid`."""
        return values.round().clamp_(*self.extremes).sub_(self.extremes[0])

    def at(self, numbers: torch.Tensor) -> torch.Tensor:
        """See :class:`Grid`."""
        return numbers + self.extremes[0]

    def numbers(self, levels: torch.Tensor) -> torch.Tensor:
        """See :class:`Grid`."""
        return levels - self.extremes[0]

    def rounded(self, weight: torch.Tensor) -> torch.Tensor:
        """See :class:`Grid`."""
        values = self.shifted(weight) / nonzero(self.scale)
        values.round_().clamp_(*self.extremes).mul_(self.scale)
        return values if self.offset is None else values.add_(self.offset)


def _rows(values: torch.Tensor, rows: slice) -> torch.Tensor:
    return values if len(values) == 1 else values[rows]


def nonzero(scale: torch.Tensor) -> torch.Tensor:
    """``scale`` with its sign, but at least :data:`TINY` in magnitude, as a divisor."""
    return torch.where(scale.abs() < TINY, TINY, scale)


class Precision(Protocol):
    """A way to store the weight ``[out, in]`` of a linear module.

    ``name``: its identity in settings, allocations and checkpoints. ``bits_per_weight``: nominal size, including
    constants of blocks. ``lossless``: nothing is rounded.
    """

    @property
    def name(self) -> str: ...
    @property
    def bits_per_weight(self) -> float: ...
    @property
    def lossless(self) -> bool: ...

    def accepts(self, rows: int, columns: int) -> bool:
        """Whether a weight of this shape can be stored."""

    def weight_bytes(self, rows: int, columns: int) -> int:
        """Bytes of the stored weight, without constants."""

    def constant_bytes(self, rows: int, columns: int) -> int:
        """Bytes of the quantization constants."""

    def encode(self, weight: torch.Tensor, importance: torch.Tensor | None = None) -> Tensors:
        """Quantize a bfloat16 ``weight`` into the tensors of a checkpoint. ``importance``: mean square of each input,
        float32 ``[in]``, for precisions that choose constants by it."""

    def decode(self, tensors: Tensors) -> torch.Tensor:
        """The bfloat16 weight that the module of :meth:`build` multiplies with."""

    def constants(self, weight: torch.Tensor, importance: torch.Tensor | None = None) -> Tensors:
        """The tensors of :meth:`encode` without the codes of the entries: the input of :meth:`grid`. If entries have no
        grid, those of :meth:`encode`."""

    def grid(self, tensors: Tensors) -> Grid | None:
        """Possible values of the entries with the constants of ``tensors``; ``None`` if they form no scalar grid
        (unquantized, or a codebook of vectors)."""

    def with_codes(self, tensors: Tensors, codes: torch.Tensor) -> Tensors:
        """``tensors`` with the levels of these numbers (``[out, in]``, whole) in place of their own, if any."""

    def round_input(self, inputs: torch.Tensor) -> torch.Tensor:
        """The ``inputs [..., in]`` that the module of :meth:`build` multiplies with; gradients pass unchanged."""

    def build(self, tensors: Tensors, bias: torch.Tensor | None) -> nn.Module:
        """A module that computes with ``tensors`` without changes."""

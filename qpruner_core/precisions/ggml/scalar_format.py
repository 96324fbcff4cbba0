"""Block formats in which each weight is a level times a scale, plus an offset if there are minima."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from functools import cached_property

import torch

from qpruner_core.precisions.base import Grid, SteppedGrid, Tensors, nonzero
from qpruner_core.precisions.ggml.bit_fields import BitField, pack_fields, unpack_fields
from qpruner_core.precisions.ggml.block_format import BlockFormat, as_float
from qpruner_core.precisions.ggml.block_weights import BlockWeights
from qpruner_core.precisions.ggml.sub_scales import Fields


@dataclass(frozen=True)
class ScalarFormat(BlockFormat):
    """``part`` consecutive weights share a scale; their codes, from 0, are in the fields ``codes``.

    ``lowest`` and ``highest``: levels of the first and the last code, with whole numbers between them unless ``uneven``
    lists all.
    """

    part: int
    codes: tuple[BitField, ...]
    lowest: int
    highest: int
    uneven: tuple[int, ...] = ()
    flipped: int = 0
    """Bits of the codes that are stored inverted."""

    @property
    def code_bytes(self) -> int:
        """Bytes of a block that hold codes."""
        return self.block * sum(field.bits for field in self.codes) // 8

    def grid(self, tensors: Tensors) -> Grid | None:
        """The levels, with the scale and the offset of the part of each entry."""
        rows = len(tensors["weight"])
        fields = self._fields(tensors)
        scale, offset = self._placing(fields, {name: as_float(fields[name]) for name in self.floats})
        whole = [
            None if each is None else each.repeat_interleave(self.part, dim=1).view(rows, -1)
            for each in (scale, offset)
        ]
        assert whole[0] is not None
        return self._grid(whole[0], whole[1])

    def with_codes(self, tensors: Tensors, codes: torch.Tensor) -> Tensors:
        """``tensors`` with the levels of these numbers (``[out, in]``, whole)."""
        return self._with_fields(tensors, self._packed(codes.to(torch.uint8).reshape(-1, self.block)))

    @abstractmethod
    def _fit(self, blocks: BlockWeights) -> Fields:
        """Constants of the ``blocks``."""

    @abstractmethod
    def _placing(self, fields: Fields, floats: Tensors) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Scale and offset of the blocks' parts, float32 ``[blocks, parts]`` each."""

    def _rounding(self, values: torch.Tensor) -> torch.Tensor:
        """The nearest levels of ``values``, which are in units of the scale and overwritten."""
        if not self.uneven:
            return values.round_().clamp_(self.lowest, self.highest)
        grid = self._grid(values, None)
        return grid.at(grid.nearest(values.flatten())).view(values.shape)

    def _encode_rows(self, rows: torch.Tensor, importance: torch.Tensor | None, codes: bool) -> Fields:
        blocks = BlockWeights.of(rows, importance, self.block, self.part)
        fields = {name: field[: blocks.count] for name, field in self._fit(blocks).items()}
        if codes:
            scale, offset = self._placing(fields, {name: as_float(fields[name]) for name in self.floats})
            values = rows.reshape(*scale.shape, self.part)
            if offset is not None:
                values = values - offset.unsqueeze(2)
            values = values / nonzero(scale).unsqueeze(2)
            numbers = self._grid(scale, offset).nearest(values.flatten())
            fields |= self._packed(numbers.to(torch.uint8).view(-1, self.block))
        return fields

    def _values(self, fields: Fields, floats: Tensors) -> torch.Tensor:
        scale, offset = self._placing(fields, floats)
        codes = unpack_fields(fields, self.codes) ^ self.flipped
        levels = self._grid(scale, offset).at(codes.flatten().float()).view(*scale.shape, self.part)
        values = levels * scale.unsqueeze(2)
        return (values if offset is None else values + offset.unsqueeze(2)).flatten(1)

    def _packed(self, codes: torch.Tensor) -> Fields:
        return pack_fields(codes ^ self.flipped, self.codes)

    def _grid(self, scale: torch.Tensor, offset: torch.Tensor | None) -> Grid:
        if self.uneven:
            return _TabledGrid(torch.tensor(self.uneven, dtype=torch.float32, device=scale.device), scale, offset)
        levels = torch.arange(self.lowest, self.highest + 1, dtype=torch.float32, device=scale.device)
        return SteppedGrid(levels, scale, offset)


class _TabledGrid(Grid):
    """A grid of whole numbers at any distance as levels: the midpoints lie on halves, so a table of halves has the
    nearest; at a midpoint, either is right."""

    def nearest(self, values: torch.Tensor) -> torch.Tensor:
        """See :class:`Grid`."""
        return self._table.index_select(0, self._halves(values.clone()))

    def to_nearest_(self, values: torch.Tensor) -> torch.Tensor:
        """See :class:`Grid`."""
        return torch.index_select(self._levels_of_halves, 0, self._halves(values), out=values)

    def _halves(self, values: torch.Tensor) -> torch.Tensor:
        """Places of ``values``, which are overwritten, in the tables of halves."""
        return values.mul_(2).floor_().sub_(self._first).clamp_(0, len(self._table) - 1).to(torch.int32)

    @cached_property
    def _first(self) -> float:
        return 2 * float(self.levels[0])

    @cached_property
    def _levels_of_halves(self) -> torch.Tensor:
        return self.at(self._table)

    @cached_property
    def _table(self) -> torch.Tensor:
        first, last = float(self.levels[0]), float(self.levels[-1])
        quarters = torch.arange(first, last, 0.5, device=self.levels.device) + 0.25
        return torch.searchsorted((self.levels[1:] + self.levels[:-1]) / 2, quarters).float()

"""Block formats in which 4 or 8 magnitudes together are an entry of a table: single weights have no grid."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

import gguf
import torch
from torch.nn.functional import pad

from qpruner_core.precisions.base import Grid, Tensors, nonzero
from qpruner_core.precisions.ggml.block_format import BlockFormat
from qpruner_core.precisions.ggml.block_weights import BlockWeights
from qpruner_core.precisions.ggml.scale_search import fit_scale, ratio, steps
from qpruner_core.precisions.ggml.sub_scales import Fields

_AT_ONCE, _AT_ONCE_ON_GPU = 256, 2**16
"""Groups that are compared with the whole table at once."""
_MOST = 31
"""The largest scale of a part; they are odd."""


@dataclass(frozen=True)
class Codes:
    """Content of a block beside ``d``: ``entries`` of the table, int64 ``[n, groups]``; ``signs``, uint8 ``[n, 32]``, a
    bit per weight, the first lowest, set if negative; ``scales``, float32 ``[n, parts]``, odd numbers from 1 to 31."""

    entries: torch.Tensor
    signs: torch.Tensor
    scales: torch.Tensor


@dataclass(frozen=True, kw_only=True)
class CodebookFormat(BlockFormat):
    """``d · unit · scale · entry · sign``, with a ``scale`` for each ``part`` weights.

    ``even``: of 8 weights an even number is negative, so that the last sign needs no bit. ``reaches``: shares of the
    table's largest magnitude that are tried for the largest weight of a part.
    """

    part: int
    unit: float
    even: bool = False
    reaches: tuple[float, ...] = tuple(steps(1.0, 0.24, 7))
    rounds: int = 1

    @property
    def code_bytes(self) -> int:
        """All bytes of a block but ``d`` and the scales of the parts."""
        return self.block_bytes - 2 - self.block // self.part // 2

    def grid(self, tensors: Tensors) -> Grid | None:
        """None: the values of a weight depend on its neighbours."""
        return None

    def with_codes(self, tensors: Tensors, codes: torch.Tensor) -> Tensors:
        """Not available for single weights."""
        raise TypeError(f"{self.name} has no codes of single weights")

    @abstractmethod
    def _pack(self, codes: Codes) -> Fields:
        """All fields but ``d``."""

    @abstractmethod
    def _unpack(self, fields: Fields) -> Codes:
        """The reverse of :meth:`_pack`."""

    def _encode_rows(self, rows: torch.Tensor, importance: torch.Tensor | None, codes: bool) -> Fields:
        blocks = BlockWeights.of(rows, importance, self.block, self.part)
        x, w = (each.permute(2, 1, 0).contiguous() for each in (blocks.x, blocks.w))
        signs = self._signs(x, w)
        search = _Search(torch.where(signs, -x, x), w, _table(self.type, rows.device))
        own, squares = search.scales(self.reaches)
        d, _ = fit_scale(own.T.contiguous(), squares.T.contiguous(), odd, steps(_MOST, 0.9, 10), 2)
        stored = blocks.stored(d / self.unit)
        scales = odd(own / nonzero(self._read(blocks, stored)))
        for _ in range(self.rounds):
            stored, scales = self._again(blocks, search, stored, scales)
        entries = search.entries(self._read(blocks, stored) * scales)
        found = Codes(entries.flatten(1), _bytes_of(signs.flatten(1)), scales)
        fields = {"d": stored.view(torch.uint8).view(-1, 2)} | self._pack(found)
        return {name: field[: blocks.count] for name, field in fields.items()}

    def _again(
        self, blocks: BlockWeights, search: _Search, stored: torch.Tensor, scales: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Fit ``d`` and the ``scales`` to the entries that they give: each scale alone, then ``d``."""
        d = self._read(blocks, stored)
        products, squares = search.sums(search.entries(d * scales))
        new_scales = odd(ratio(products, squares) / nonzero(d))
        best = ratio((new_scales * products).sum(dim=1), (new_scales.square() * squares).sum(dim=1))
        new_stored = blocks.stored(best / self.unit)

        def gain(of_d: torch.Tensor, of_scales: torch.Tensor) -> torch.Tensor:
            each = of_d * of_scales
            return (each * (2 * products - each * squares)).sum(dim=1)

        better = gain(self._read(blocks, new_stored), new_scales) > gain(d, scales)
        return torch.where(better, new_stored, stored), torch.where(better.unsqueeze(1), new_scales, scales)

    def _read(self, blocks: BlockWeights, stored: torch.Tensor) -> torch.Tensor:
        return (blocks.read(stored) * self.unit).unsqueeze(1)

    def _signs(self, x: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
        """Which of ``x [n, parts, part]`` are stored as negative."""
        negative = x < 0
        if self.even:
            eights = negative.view(-1, 8)
            cheapest = (w * x * x).view(-1, 8).argmin(dim=1, keepdim=True)
            odd_ones = eights.sum(dim=1, keepdim=True) % 2 == 1
            eights.scatter_(1, cheapest, eights.gather(1, cheapest) ^ odd_ones)
        return negative

    def _values(self, fields: Fields, floats: Tensors) -> torch.Tensor:
        codes = self._unpack(fields)
        magnitudes = _table(self.type, codes.entries.device)[codes.entries].view(*codes.scales.shape, self.part)
        scales = floats["d"].unsqueeze(1) * (codes.scales * self.unit)
        signs = 1.0 - 2.0 * _bits_of(codes.signs).float().view(magnitudes.shape)
        return (scales.unsqueeze(2) * magnitudes * signs).flatten(1)


class _Search:
    """Entries of a ``table [entries, group]`` nearest to ``y [n, parts, part]``, weighted by ``w``."""

    def __init__(self, y: torch.Tensor, w: torch.Tensor, table: torch.Tensor) -> None:
        self._y, self._w, self._wy, self._table = y, w, w * y, table
        # Σ w·(y − entry)², without Σ w·y², as one product
        self._factor = torch.cat([-2 * table, table.square()], dim=1).T.contiguous()
        numbers = torch.arange(len(table), dtype=torch.float32, device=table.device)
        self._count = torch.stack([numbers, torch.ones_like(numbers)], dim=1)

    def scales(self, reaches: tuple[float, ...]) -> tuple[torch.Tensor, torch.Tensor]:
        """The best scale of each part, float32 ``[n, parts]``, and the weighted squares of its entries."""
        peak = self._y.amax(dim=2) / self._table.max()
        least, scale = torch.full_like(peak, math.inf), peak
        for reach in reaches:
            error = self._errors(peak / reach)
            least, scale = torch.minimum(error, least), torch.where(error < least, peak / reach, scale)
        products, squares = self.sums(self.entries(scale))
        return ratio(products, squares).clamp_(min=0), squares

    def entries(self, scale: torch.Tensor) -> torch.Tensor:
        """Numbers of the nearest entries with this ``scale [n, parts]``, int64 ``[n, parts, groups]``."""
        found = [self._nearest(distances) for distances in self._distances(scale)]
        return torch.cat(found)[: self._y.numel() // self._table.shape[1]].view(*scale.shape, -1)

    def _errors(self, scale: torch.Tensor) -> torch.Tensor:
        """``Σ w·(y − scale·entry)²`` of each part, less ``Σ w·y²``."""
        least = torch.cat([distances.amin(dim=1) for distances in self._distances(scale)])
        each = least[: self._y.numel() // self._table.shape[1]].view(*scale.shape, -1)
        return each.sum(dim=2) * scale.square()

    def _distances(self, scale: torch.Tensor) -> Iterator[torch.Tensor]:
        """``Σ w·(y / scale − entry)²`` without the terms that do not depend on the entry, ``[groups, entries]``, for
        successive groups in the same memory."""
        group = self._table.shape[1]
        inverse = ratio(torch.ones_like(scale), scale).unsqueeze(2)
        both = torch.cat([(self._wy * inverse).view(-1, group), self._w.view(-1, group)], dim=1)
        at_once = _AT_ONCE_ON_GPU if both.is_cuda else _AT_ONCE
        # Always of one shape: products of other shapes may add in another order
        padded = pad(both, (0, 0, 0, -len(both) % at_once))
        distances = both.new_empty(at_once, len(self._table))
        for part in padded.split(at_once):
            yield torch.mm(part, self._factor, out=distances)

    def _nearest(self, distances: torch.Tensor) -> torch.Tensor:
        """Indices of the smallest of ``distances [groups, entries]``, which are overwritten.

        ``argmin`` takes ten times as long as ``amin`` on a processor, so the smallest are located by value; equal ones
        would have their indices added.
        """
        if distances.is_cuda:
            return distances.argmin(dim=1)
        least = distances.amin(dim=1, keepdim=True)
        numbers, count = (torch.le(distances, least, out=distances) @ self._count).unbind(dim=1)
        found = numbers.long()
        several = (count > 1).nonzero().squeeze(1)
        if len(several):
            found[several] = distances[several].argmax(dim=1)
        return found

    def sums(self, entries: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """``Σ w·y·entry`` and ``Σ w·entry²`` of each part."""
        levels = self._table[entries].view(self._y.shape)
        return (self._wy * levels).sum(dim=2), levels.square_().mul_(self._w).sum(dim=2)


def odd(values: torch.Tensor) -> torch.Tensor:
    """The nearest odd numbers from 1 to 31."""
    return values.sub(1).div_(2).round_().mul_(2).add_(1).clamp_(1, _MOST)


def _bytes_of(flags: torch.Tensor) -> torch.Tensor:
    """Booleans ``[n, count]`` as bits, the first lowest, uint8 ``[n, count / 8]``."""
    places = 2 ** torch.arange(8, device=flags.device)
    return (flags.view(len(flags), -1, 8) * places).sum(dim=2).to(torch.uint8)


def _bits_of(packed: torch.Tensor) -> torch.Tensor:
    """The reverse of :func:`_bytes_of`, uint8 ``[n, count]``."""
    places = torch.arange(8, dtype=torch.uint8, device=packed.device)
    bits: torch.Tensor = (packed.unsqueeze(2) >> places & 1).flatten(1)
    return bits


@cache
def _table(type_: gguf.GGMLQuantizationType, device: torch.device) -> torch.Tensor:
    """The table of a type, float32 ``[entries, group]``, from the gguf package."""
    owner = getattr(gguf.quants, type_.name)
    owner.init_grid()
    return torch.tensor(owner.grid[0, 0], dtype=torch.float32, device=device)

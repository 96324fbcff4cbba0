"""Scales and minima of blocks by weighted least squares.

After ``make_qx_quants``, ``make_qkx3_quants`` and ``make_qp_quants`` of llama.cpp's ``ggml-quants.c``: round to whole
numbers with several scales near that of the extremes, fit the best constants to each rounding, and keep the result with
the least error. From there on, rounding with the best constants and fitting again can only improve it.

Weights are stored as ``[count, …]``: the members of a block come first, so that sums over them are sums of long
vectors.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields

import torch

Rounding = Callable[[torch.Tensor], torch.Tensor]
"""Maps values in units of the scale to their nearest levels."""
_SAME = 1e-6
"""A determinant below this share of its terms is rounding noise."""


def steps(reach: float, width: float, count: int) -> list[float]:
    """``count`` numbers around ``reach``, at most ``width`` from it."""
    if count == 1:
        return [reach]
    return [reach + width * (2 * index / (count - 1) - 1) for index in range(count)]


def ratio(above: torch.Tensor, below: torch.Tensor) -> torch.Tensor:
    """``above / below``, 0 if ``below`` is 0."""
    return torch.where(below == 0, 0.0, above / torch.where(below == 0, 1.0, below))


def fit_scale(
    x: torch.Tensor, w: torch.Tensor, rounding: Rounding, reaches: Sequence[float], refinements: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """The scale ``[…]`` with which levels come nearest to ``x [count, …]``, weighted by ``w``, and ``Σ w·level²``.

    ``reaches``: levels that are tried for the entry of largest magnitude.
    """
    high, low = x.amax(dim=0), x.amin(dim=0)
    extreme = torch.where(high > -low, high, low)
    inverse = ratio(torch.ones_like(extreme), extreme)
    products, squares = torch.zeros_like(extreme), torch.zeros_like(extreme)
    candidates: list[float | None] = [*reaches, *[None] * refinements]
    wx = w * x
    for reach in candidates:
        factor = ratio(squares, products) if reach is None else inverse * reach
        levels = rounding(x * factor)
        product = (wx * levels).sum(dim=0)
        square = levels.square_().mul_(w).sum(dim=0)
        better = product.square() * squares > products.square() * square
        better |= squares == 0
        products, squares = torch.where(better, product, products), torch.where(better, square, squares)
    return ratio(products, squares), squares


@dataclass(frozen=True)
class Sums:
    """Sums over the members of a block, of their values ``x``, levels ``l`` and weights ``w``; each ``[…]``."""

    w: torch.Tensor
    x: torch.Tensor
    xx: torch.Tensor
    l: torch.Tensor  # noqa: E741
    ll: torch.Tensor
    xl: torch.Tensor

    @property
    def spread(self) -> torch.Tensor:
        """``Σw · Σwl² − (Σwl)²``, 0 if all levels are equal."""
        spread = self.w * self.ll - self.l.square()
        return torch.where(spread > _SAME * self.w * self.ll, spread, 0.0)

    def error(self, scale: torch.Tensor, offset: torch.Tensor) -> torch.Tensor:
        """``Σ w·(scale·l + offset − x)²``."""
        of_scale = scale * (scale * self.ll + 2 * (offset * self.l - self.xl))
        return self.xx + of_scale + offset * (offset * self.w - 2 * self.x)

    def where(self, better: torch.Tensor, other: Sums) -> Sums:
        """These where ``better``, else those of ``other``."""
        names = [field.name for field in fields(self)]
        return Sums(*(torch.where(better, getattr(self, name), getattr(other, name)) for name in names))


class WeightedValues:
    """Values ``x [count, …]`` with their weights ``w``, and the sums that do not depend on rounding."""

    def __init__(self, x: torch.Tensor, w: torch.Tensor) -> None:
        self.x, self.w = x, w
        self._wx = w * x
        self._of_w, self._of_x, self._of_xx = w.sum(dim=0), self._wx.sum(dim=0), (self._wx * x).sum(dim=0)

    def sums(self, levels: torch.Tensor) -> Sums:
        """With these ``levels [count, …]``, which are overwritten."""
        of_xl = (self._wx * levels).sum(dim=0)
        weighted = self.w * levels
        return Sums(self._of_w, self._of_x, self._of_xx, weighted.sum(dim=0), weighted.mul_(levels).sum(dim=0), of_xl)


def best_affine(sums: Sums, signed: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """Scale and offset with the least error; the offset at most 0 unless ``signed``."""
    spread = sums.spread
    scale = ratio(sums.w * sums.xl - sums.x * sums.l, spread)
    offset = ratio(sums.ll * sums.x - sums.l * sums.xl, spread)
    alone = spread == 0
    if not signed:
        alone |= offset > 0
    return torch.where(alone, ratio(sums.xl, sums.ll), scale), torch.where(alone, 0.0, offset)


def fit_affine(
    values: WeightedValues, top: int, reaches: Sequence[float], refinements: int, signed: bool
) -> tuple[torch.Tensor, torch.Tensor, Sums]:
    """Scale and offset ``[…]`` with which the levels 0 … ``top`` come nearest to the ``values``, and the sums of the
    rounding that they were fitted to.

    ``reaches``: levels that are tried for the distance between the extremes. The offset is at most 0 unless ``signed``.
    """
    x = values.x
    low, high = x.amin(dim=0), x.amax(dim=0)
    if not signed:
        low = low.clamp(max=0)
    inverse = ratio(torch.ones_like(low), high - low)
    scale, offset = torch.zeros_like(low), low
    best = values.sums(torch.zeros_like(x))
    error = best.error(scale, offset)
    candidates: list[float | None] = [*reaches, *[None] * refinements]
    for reach in candidates:
        if reach is None:
            levels = x.sub(offset).mul_(ratio(torch.ones_like(scale), scale))
        else:
            levels = x.sub(low).mul_(inverse * reach)
        sums = values.sums(levels.round_().clamp_(0, top))
        own_scale, own_offset = best_affine(sums, signed)
        own_error = sums.error(own_scale, own_offset)
        better = (own_error < error) & (own_scale > 0)
        scale, offset = torch.where(better, own_scale, scale), torch.where(better, own_offset, offset)
        error, best = torch.where(better, own_error, error), sums.where(better, best)
    return scale, offset, best

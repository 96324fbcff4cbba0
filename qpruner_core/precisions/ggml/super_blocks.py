"""Super-blocks of 256 weights, whose parts' scales (and minima) are small whole numbers: K-quants and iq4_xs."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from gguf import GGMLQuantizationType

from qpruner_core.precisions.base import Tensors, nonzero
from qpruner_core.precisions.ggml.bit_fields import BitField
from qpruner_core.precisions.ggml.block_weights import BlockWeights
from qpruner_core.precisions.ggml.plain_blocks import IQ4_LEVELS
from qpruner_core.precisions.ggml.scalar_format import ScalarFormat
from qpruner_core.precisions.ggml.scale_search import (
    Sums,
    WeightedValues,
    fit_affine,
    fit_scale,
    ratio,
    steps,
)
from qpruner_core.precisions.ggml.sub_scales import Bytes, Fields, Nibbles, SixBits, Split, SubScales


@dataclass(frozen=True, kw_only=True)
class SuperBlocks(ScalarFormat):
    """``reaches``: levels that are tried for the largest weight of a part, or the distance of its extremes; ``rounds``:
    how often all constants are fitted to their codes."""

    sub_scales: SubScales
    reaches: tuple[float, ...]
    refinements: int = 1
    rounds: int = 2


@dataclass(frozen=True, kw_only=True)
class ScaledSuperBlocks(SuperBlocks):
    """``d · scale · level``; scales have a sign."""

    def _fit(self, blocks: BlockWeights) -> Fields:
        own, squares = fit_scale(blocks.x, blocks.w, self._rounding, self.reaches, self.refinements)
        lowest = self.sub_scales.lowest
        d, _ = fit_scale(own, squares, self._whole, steps(lowest, 0.9, 10), 2)
        stored = blocks.stored(d)
        scales = self._whole(own / nonzero(blocks.read(stored)))
        wx = blocks.w * blocks.x
        for _ in range(self.rounds):
            stored, scales = self._again(blocks, wx, stored, scales)
        return {"d": stored.view(torch.uint8).view(-1, 2)} | self.sub_scales.pack(scales.T)

    def _again(
        self, blocks: BlockWeights, wx: torch.Tensor, stored: torch.Tensor, scales: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Fit ``d`` and ``scales`` to the codes that they give: each scale alone, then ``d``."""
        d = blocks.read(stored)
        levels = self._rounding(blocks.x / nonzero(d * scales))
        products = (wx * levels).sum(dim=0)
        squares = levels.square_().mul_(blocks.w).sum(dim=0)

        def gain(of_d: torch.Tensor, of_scales: torch.Tensor) -> torch.Tensor:
            each = of_d * of_scales
            return (each * (2 * products - each * squares)).sum(dim=0)

        new_scales = self._whole(ratio(products, squares) / nonzero(d))
        new_stored = blocks.stored(
            ratio((new_scales * products).sum(dim=0), (new_scales.square() * squares).sum(dim=0))
        )
        better = gain(blocks.read(new_stored), new_scales) > gain(d, scales)
        return torch.where(better, new_stored, stored), torch.where(better, new_scales, scales)

    def _whole(self, values: torch.Tensor) -> torch.Tensor:
        return values.round().clamp_(self.sub_scales.lowest, self.sub_scales.highest)

    def _placing(self, fields: Fields, floats: Tensors) -> tuple[torch.Tensor, torch.Tensor | None]:
        return floats["d"].unsqueeze(1) * self.sub_scales.unpack(fields), None


@dataclass(frozen=True, kw_only=True)
class AffineSuperBlocks(SuperBlocks):
    """``d · scale · level − dmin · minimum``; none of the whole numbers has a sign."""

    def _fit(self, blocks: BlockWeights) -> Fields:
        values = WeightedValues(blocks.x, blocks.w)
        own, _, sums = fit_affine(values, self.highest, self.reaches, self.refinements, signed=False)
        stored, scales = self._shared(blocks, own, ratio(sums.spread, sums.w))
        least = self._least(sums, blocks.read(stored) * scales)
        stored_min, minima = self._shared(blocks, least, sums.w)
        found = stored, stored_min, scales, minima
        for _ in range(self.rounds):
            found = self._again(blocks, values, *found)
        stored, stored_min, scales, minima = found
        fields = {"d": stored.view(torch.uint8).view(-1, 2), "dmin": stored_min.view(torch.uint8).view(-1, 2)}
        return fields | self.sub_scales.pack(torch.cat([scales, minima]).T)

    def _shared(
        self, blocks: BlockWeights, own: torch.Tensor, weights: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The float16 ``[n]`` and the whole numbers ``[parts, n]`` whose product comes nearest to ``own``."""
        # If nothing depends on any of them, some value is still needed
        weights = weights + 1e-6 * weights.amax(dim=0).clamp(min=1e-6)
        shared, _ = fit_scale(own, weights, self._whole, steps(self.sub_scales.highest, 0.4, 9), 2)
        stored = blocks.stored(shared)
        return stored, self._whole(own / nonzero(blocks.read(stored)))

    def _least(self, sums: Sums, scale: torch.Tensor) -> torch.Tensor:
        """The best subtrahend with this ``scale``, at least 0."""
        return ratio(scale * sums.l - sums.x, sums.w).clamp_(min=0)

    def _again(
        self, blocks: BlockWeights, values: WeightedValues, stored: torch.Tensor, stored_min: torch.Tensor,
        scales: torch.Tensor, minima: torch.Tensor,
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:  # fmt: skip
        """Fit all constants to the codes that they give: minima and scales of each part, then ``d`` and ``dmin``."""
        d, dmin = blocks.read(stored), blocks.read(stored_min)
        scale, least = d * scales, dmin * minima
        levels = (values.x + least).div_(nonzero(scale))
        sums = values.sums(levels.round_().clamp_(0, self.highest))
        new_minima = self._whole(self._least(sums, scale) / nonzero(dmin))
        new_scales = self._whole(ratio(sums.xl + dmin * new_minima * sums.l, sums.ll) / nonzero(d))
        new_stored, new_stored_min = (blocks.stored(each) for each in _both(sums, new_scales, new_minima))
        before = sums.error(scale, -least).sum(dim=0)
        after = sums.error(blocks.read(new_stored) * new_scales, -blocks.read(new_stored_min) * new_minima).sum(dim=0)
        better = after < before
        return (
            torch.where(better, new_stored, stored), torch.where(better, new_stored_min, stored_min),
            torch.where(better, new_scales, scales), torch.where(better, new_minima, minima),
        )  # fmt: skip

    def _whole(self, values: torch.Tensor) -> torch.Tensor:
        return values.round().clamp_(self.sub_scales.lowest, self.sub_scales.highest)

    def _placing(self, fields: Fields, floats: Tensors) -> tuple[torch.Tensor, torch.Tensor | None]:
        scales, minima = self.sub_scales.unpack(fields).chunk(2, dim=1)
        return floats["d"].unsqueeze(1) * scales, -(floats["dmin"].unsqueeze(1) * minima)


def _both(sums: Sums, scales: torch.Tensor, minima: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """``d`` and ``dmin [n]`` with the least error for these whole numbers; neither is negative."""
    uu = (scales.square() * sums.ll).sum(dim=0)
    uv = (scales * minima * sums.l).sum(dim=0)
    vv = (minima.square() * sums.w).sum(dim=0)
    xu, xv = (scales * sums.xl).sum(dim=0), (minima * sums.x).sum(dim=0)
    determinant = uu * vv - uv.square()
    alone = determinant <= 1e-6 * uu * vv
    determinant = torch.where(alone, 0.0, determinant)
    d, dmin = ratio(vv * xu - uv * xv, determinant), ratio(uv * xu - uu * xv, determinant)
    alone |= dmin < 0
    return torch.where(alone, ratio(xu, uu), d).clamp(min=0), torch.where(alone, 0.0, dmin)


Q2_K = AffineSuperBlocks(
    "q2_k", GGMLQuantizationType.Q2_K, (("scales", 16), ("qs", 64), ("d", 2), ("dmin", 2)), ("d", "dmin"),
    part=16, codes=(BitField("qs", 2, 32),), lowest=0, highest=3,
    sub_scales=Nibbles(), reaches=tuple(steps(3, 0.9, 13)), refinements=2, rounds=3,
)  # fmt: skip
Q3_K = ScaledSuperBlocks(
    "q3_k", GGMLQuantizationType.Q3_K, (("hmask", 32), ("qs", 64), ("scales", 8), ("high", 4), ("d", 2)), ("d",),
    part=16, codes=(BitField("qs", 2, 32), BitField("hmask", 1, 32)), lowest=-4, highest=3,
    sub_scales=Split(-32, 31, BitField("scales", 4, 8), BitField("high", 2, 4)),
    reaches=tuple(steps(-4, 0.9, 13)), refinements=2,
)  # fmt: skip
Q4_K = AffineSuperBlocks(
    "q4_k", GGMLQuantizationType.Q4_K, (("d", 2), ("dmin", 2), ("scales", 12), ("qs", 128)), ("d", "dmin"),
    part=32, codes=(BitField("qs", 4, 32),), lowest=0, highest=15,
    sub_scales=SixBits(), reaches=tuple(steps(15, 0.9, 10)),
)  # fmt: skip
Q5_K = AffineSuperBlocks(
    "q5_k", GGMLQuantizationType.Q5_K, (("d", 2), ("dmin", 2), ("scales", 12), ("qh", 32), ("qs", 128)), ("d", "dmin"),
    part=32, codes=(BitField("qs", 4, 32), BitField("qh", 1, 32)), lowest=0, highest=31,
    sub_scales=SixBits(), reaches=tuple(steps(31, 0.9, 10)),
)  # fmt: skip
Q6_K = ScaledSuperBlocks(
    "q6_k", GGMLQuantizationType.Q6_K, (("ql", 128), ("qh", 64), ("scales", 16), ("d", 2)), ("d",),
    part=16, codes=(BitField("ql", 4, 64), BitField("qh", 2, 32)), lowest=-32, highest=31,
    sub_scales=Bytes(), reaches=tuple(steps(-32, 0.9, 10)),
)  # fmt: skip
IQ4_XS = ScaledSuperBlocks(
    "iq4_xs", GGMLQuantizationType.IQ4_XS, (("d", 2), ("high", 2), ("scales", 4), ("qs", 128)), ("d",),
    part=32, codes=(BitField("qs", 4, 16),), lowest=-127, highest=113, uneven=IQ4_LEVELS,
    sub_scales=Split(-32, 31, BitField("scales", 4, 1), BitField("high", 2, 1)),
    reaches=(*steps(-127, 8, 9), 113.0, 120.0),
)  # fmt: skip

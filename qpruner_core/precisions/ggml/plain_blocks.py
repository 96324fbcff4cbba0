"""Blocks of 32 weights with a scale, and a minimum in types named ``_1``: q4_0, q5_0, q8_0, iq4_nl, q4_1, q5_1."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from gguf import GGMLQuantizationType

from qpruner_core.precisions.base import Tensors
from qpruner_core.precisions.ggml.bit_fields import BitField
from qpruner_core.precisions.ggml.block_weights import BlockWeights
from qpruner_core.precisions.ggml.scalar_format import ScalarFormat
from qpruner_core.precisions.ggml.scale_search import WeightedValues, fit_affine, fit_scale, steps
from qpruner_core.precisions.ggml.sub_scales import Fields

IQ4_LEVELS = (-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113)
_FOUR = (BitField("qs", 4, 16),)
_FIVE = (BitField("qs", 4, 16), BitField("qh", 1, 1))


@dataclass(frozen=True)
class ScaledBlocks(ScalarFormat):
    """``d · level``; ``reaches``: levels that are tried for the largest weight."""

    reaches: tuple[float, ...] = ()
    refinements: int = 2

    def _fit(self, blocks: BlockWeights) -> Fields:
        scale, _ = fit_scale(blocks.x, blocks.w, self._rounding, self.reaches, self.refinements)
        return {"d": blocks.stored(scale[0]).view(torch.uint8).view(-1, 2)}

    def _placing(self, fields: Fields, floats: Tensors) -> tuple[torch.Tensor, torch.Tensor | None]:
        return floats["d"].unsqueeze(1), None


@dataclass(frozen=True)
class AffineBlocks(ScalarFormat):
    """``d · level + m``."""

    reaches: tuple[float, ...] = ()
    refinements: int = 2

    def _fit(self, blocks: BlockWeights) -> Fields:
        values = WeightedValues(blocks.x, blocks.w)
        scale, offset, _ = fit_affine(values, self.highest, self.reaches, self.refinements, signed=True)
        found = {"d": blocks.stored(scale[0]), "m": blocks.stored(offset[0])}
        return {name: value.view(torch.uint8).view(-1, 2) for name, value in found.items()}

    def _placing(self, fields: Fields, floats: Tensors) -> tuple[torch.Tensor, torch.Tensor | None]:
        return floats["d"].unsqueeze(1), floats["m"].unsqueeze(1)


Q4_0 = ScaledBlocks(
    "q4_0", GGMLQuantizationType.Q4_0, (("d", 2), ("qs", 16)), ("d",),
    part=32, codes=_FOUR, lowest=-8, highest=7, reaches=tuple(steps(-8, 0.9, 10)),
)  # fmt: skip
Q5_0 = ScaledBlocks(
    "q5_0", GGMLQuantizationType.Q5_0, (("d", 2), ("qh", 4), ("qs", 16)), ("d",),
    part=32, codes=_FIVE, lowest=-16, highest=15, reaches=tuple(steps(-16, 0.9, 10)),
)  # fmt: skip
Q8_0 = ScaledBlocks(
    "q8_0", GGMLQuantizationType.Q8_0, (("d", 2), ("qs", 32)), ("d",),
    part=32, codes=(BitField("qs", 8, 1),), lowest=-128, highest=127, flipped=128,
    reaches=(127.0,), refinements=1,
)  # fmt: skip
IQ4_NL = ScaledBlocks(
    "iq4_nl", GGMLQuantizationType.IQ4_NL, (("d", 2), ("qs", 16)), ("d",),
    part=32, codes=_FOUR, lowest=-127, highest=113, uneven=IQ4_LEVELS,
    reaches=(*steps(-127, 8, 9), 113.0, 120.0),
)  # fmt: skip
Q4_1 = AffineBlocks(
    "q4_1", GGMLQuantizationType.Q4_1, (("d", 2), ("m", 2), ("qs", 16)), ("d", "m"),
    part=32, codes=_FOUR, lowest=0, highest=15, reaches=tuple(steps(15, 0.9, 10)),
)  # fmt: skip
Q5_1 = AffineBlocks(
    "q5_1", GGMLQuantizationType.Q5_1, (("d", 2), ("m", 2), ("qh", 4), ("qs", 16)), ("d", "m"),
    part=32, codes=_FIVE, lowest=0, highest=31, reaches=tuple(steps(31, 0.9, 10)),
)  # fmt: skip

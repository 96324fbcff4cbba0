"""Blocks of weights as scales are searched for: their size taken out, and how much each weight counts."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

import torch
from torch.nn.functional import pad

from qpruner_core.precisions.ggml.block_format import to_f16

_LEAST_EXPONENT, _LARGEST_RATIO = -100, 1e6
_NOTHING = 2.0**-40
"""What counts as zero beside a block's largest weight, so that nothing overflows that is divided by it."""
_TOGETHER = 64
"""Blocks that there are a multiple of: processors add in another order where vectors end."""


class Emphasis(Enum):
    """What a weight ``x`` counts beside the importance of its input: ``√(share · mean(x²) + x²)``, with the mean over
    the row or the block, as llama.cpp has it for each type with an importance matrix; nothing for ``NONE``."""

    NONE = 0.0
    ROW = 1.0
    BLOCK = 1.00001
    TWICE_BLOCK = 2.0


@dataclass(frozen=True)
class BlockWeights:
    """``x [part, parts, n]``: the weights of ``n`` blocks, each block over its ``power`` of two (``[n]``), so that its
    largest is between 1 and 2; ``w``: what they count, at most 1. Blocks of zeros fill ``n`` up: ``count`` are real."""

    x: torch.Tensor
    w: torch.Tensor
    power: torch.Tensor
    count: int

    @staticmethod
    def of(
        rows: torch.Tensor, importance: torch.Tensor | None, block: int, part: int, emphasis: Emphasis
    ) -> BlockWeights:
        """Of the float32 ``rows [n, in]``; ``importance``: float32 ``[in]``, positive."""
        columns = rows.reshape(-1, block // part, part).permute(2, 1, 0)
        count = columns.shape[2]
        x = pad(columns, (0, -count % _TOGETHER)).contiguous()
        exponent = torch.frexp(x.abs().amax(dim=(0, 1)))[1].clamp(min=_LEAST_EXPONENT)
        power = torch.ldexp(torch.ones_like(exponent, dtype=torch.float32), exponent - 1)
        x = x / power
        x = torch.where(x.abs() < _NOTHING, 0.0, x)
        w = _emphasis(x, power, (len(rows), count), emphasis)
        if importance is not None:
            each = importance.view(-1, block // part, part).repeat(len(rows), 1, 1)
            w = w * pad(each.permute(2, 1, 0), (0, -count % _TOGETHER))
        return BlockWeights(x, w / w.amax(dim=(0, 1)).clamp(min=1e-30), power, count)

    def stored(self, value: torch.Tensor) -> torch.Tensor:
        """``value [n]`` as float16 can store it at the blocks' real size; float16."""
        return to_f16(value * self.power)

    def read(self, stored: torch.Tensor) -> torch.Tensor:
        """What ``stored`` (float16 ``[n]``) is over the blocks' powers; float32."""
        return stored.float() / self.power


def _emphasis(x: torch.Tensor, power: torch.Tensor, counts: tuple[int, int], emphasis: Emphasis) -> torch.Tensor:
    if emphasis is Emphasis.NONE:
        return torch.ones_like(x)
    squares = x.square()
    mean = squares.mean(dim=(0, 1))
    if emphasis is Emphasis.ROW:
        rows, count = counts
        by_row = power[:count].view(rows, -1)
        largest = by_row.amax(dim=1, keepdim=True)
        of_row = (mean[:count].view(rows, -1) * (by_row / largest).square()).mean(dim=1, keepdim=True)
        of_blocks = (of_row.sqrt() * (largest / by_row).clamp(max=_LARGEST_RATIO)).square().flatten()
        mean = pad(of_blocks, (0, len(power) - count))
    return squares.add_(mean * emphasis.value).sqrt_()

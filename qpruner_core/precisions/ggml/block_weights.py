"""Normalised blocks of weights for the search of scales, and the importance of each weight."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch.nn.functional import pad

from qpruner_core.precisions.ggml.block_format import to_f16

_LEAST_EXPONENT = -100
_NOTHING = 2.0**-40
"""Share of a block's largest weight that counts as zero, so that no division by it overflows."""
_TOGETHER = 64
"""The number of blocks is padded to a multiple of this: processors add in another order at the end of vectors."""


@dataclass(frozen=True)
class BlockWeights:
    """``x [part, parts, n]``: the weights of ``n`` blocks, each divided by its ``power`` of two (``[n]``), so that its
    largest is between 1 and 2; ``w``: their importance, at most 1. Blocks of zeros pad ``n``: ``count`` are real."""

    x: torch.Tensor
    w: torch.Tensor
    power: torch.Tensor
    count: int

    @staticmethod
    def of(rows: torch.Tensor, importance: torch.Tensor | None, block: int, part: int) -> BlockWeights:
        """From float32 ``rows [n, in]``; ``importance``: float32 ``[in]``, positive."""
        columns = rows.reshape(-1, block // part, part).permute(2, 1, 0)
        count = columns.shape[2]
        x = pad(columns, (0, -count % _TOGETHER)).contiguous()
        exponent = torch.frexp(x.abs().amax(dim=(0, 1)))[1].clamp(min=_LEAST_EXPONENT)
        power = torch.ldexp(torch.ones_like(exponent, dtype=torch.float32), exponent - 1)
        x = x / power
        x = torch.where(x.abs() < _NOTHING, 0.0, x)
        w = torch.ones_like(x)
        if importance is not None:
            each = importance.view(-1, block // part, part).repeat(len(rows), 1, 1)
            w = w * pad(each.permute(2, 1, 0), (0, -count % _TOGETHER))
        return BlockWeights(x, w / w.amax(dim=(0, 1)).clamp(min=1e-30), power, count)

    def stored(self, value: torch.Tensor) -> torch.Tensor:
        """``value [n]`` rounded to float16 at the blocks' real size; float16."""
        return to_f16(value * self.power)

    def read(self, stored: torch.Tensor) -> torch.Tensor:
        """``stored`` (float16 ``[n]``) divided by the blocks' powers; float32."""
        return stored.float() / self.power

"""Rounding in which later weights make up for the errors of earlier ones (GPTQ, arXiv 2210.17323).

The constants stay those of plain rounding, so that the result has the same bytes and needs no other kernel.
"""

from __future__ import annotations

from dataclasses import replace

import torch

from qpruner_core.precisions import Grid, Precision, Tensors
from qpruner_core.quantize.input_moments import InputMoments

_BLOCK = 32


def encode_with_feedback(weight: torch.Tensor, precision: Precision, moments: InputMoments) -> Tensors:
    """Quantize ``weight [out, in]`` so that the error of its output is small: ``E‖(W − Q)·x‖²`` over the inputs ``x``.

    Inputs are rounded in the order of their size, largest first. What rounding one column takes is made up for in the
    columns that are still to be rounded, each as its inputs go together with those of the first. Where the moments are
    all zero, weights are rounded to the nearest.
    """
    tensors = precision.encode(weight)
    grid = precision.grid(tensors)
    if grid is None or not moments.any:
        return tensors
    order, factor = moments.order, moments.inverse_factor
    # Columns lie together as rows: each is read and written on its own
    scale = grid.scale.expand(weight.shape).T[order]
    rounded = _round(weight.float().T[order], replace(grid, scale=scale), factor)
    codes = torch.empty_like(rounded)
    codes[order] = rounded
    return precision.with_codes(tensors, codes.T.contiguous())


def _round(columns: torch.Tensor, grid: Grid, factor: torch.Tensor) -> torch.Tensor:
    """Numbers of the levels (int64) of the weight's ``columns [in, out]`` (float32; used up), one after another.

    ``grid.scale`` is ``[in, out]``, ``factor`` the upper one ``[in, in]``. Columns behind the block at hand are changed
    once a block.
    """
    scale = grid.scale.clamp(min=torch.finfo(torch.float32).tiny)
    codes = torch.empty(columns.shape, dtype=torch.int64, device=columns.device)
    count = len(columns)
    for start in range(0, count, _BLOCK):
        block = slice(start, min(start + _BLOCK, count))
        errors = torch.empty_like(columns[block])
        spread = factor[block] / factor.diagonal()[block].unsqueeze(1)  # what every column takes of these errors
        each = zip(columns[block], scale[block], codes[block], errors, spread[:, block], strict=True)
        for index, (column, scales, numbers, error, shares) in enumerate(each):
            numbers.copy_(grid.nearest(column / scales))
            torch.addcmul(column, grid.levels.take(numbers), scales, value=-1.0, out=error)
            columns[start + index + 1 : block.stop].addr_(shares[index + 1 :], error, alpha=-1.0)
        columns[block.stop :].addmm_(spread[:, block.stop :].T, errors, alpha=-1.0)
    return codes

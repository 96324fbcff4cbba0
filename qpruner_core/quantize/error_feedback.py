"""Rounding in which later weights make up for the errors of earlier ones (GPTQ, arXiv 2210.17323).

The constants stay those of plain rounding, so that the result has the same bytes and needs no other kernel.
"""

from __future__ import annotations

import torch

from qpruner_core.precisions import Grid, Precision, Tensors

_BLOCK = 64
_DAMPING = 0.01
"""What is added to the diagonal of the moments, as a share of its mean; as GPTQ has it."""


def encode_with_feedback(weight: torch.Tensor, precision: Precision, moments: torch.Tensor) -> Tensors:
    """Quantize ``weight [out, in]`` so that the error of its output is small: ``E‖(W − Q)·x‖²`` over the inputs ``x``.

    Args:
        moments: second moments ``Σ x·xᵀ`` (or their mean), ``[in, in]``, float32 or wider; overwritten.

    Inputs are rounded in the order of their size, largest first. What rounding one column takes is made up for in the
    columns that are still to be rounded, each as its inputs go together with those of the first. Where the moments are
    all zero, weights are rounded to the nearest.
    """
    tensors = precision.encode(weight)
    grid = precision.grid(tensors)
    if grid is None or not moments.any():
        return tensors
    order = moments.diagonal().argsort(descending=True)
    factor = _inverse_factor(moments, order)
    scale = grid.scale.expand(weight.shape)[:, order]
    codes = torch.empty(weight.shape, dtype=torch.int64, device=weight.device)
    codes[:, order] = _round(weight.float()[:, order], Grid(grid.levels, scale), factor)
    return precision.with_codes(tensors, codes)


def _inverse_factor(moments: torch.Tensor, order: torch.Tensor) -> torch.Tensor:
    """The upper Cholesky factor of the inverse of the damped moments, rows and columns in ``order``."""
    moments.diagonal().add_(_DAMPING * moments.diagonal().mean())
    lower = torch.linalg.cholesky(moments[order][:, order])
    upper: torch.Tensor = torch.linalg.cholesky(torch.cholesky_inverse(lower), upper=True)
    return upper.float()


def _round(weight: torch.Tensor, grid: Grid, factor: torch.Tensor) -> torch.Tensor:
    """Numbers of the levels, column by column; ``weight`` (float32) is used up. Columns behind the block at hand are
    changed once a block."""
    middles = (grid.levels[1:] + grid.levels[:-1]) / 2
    scale = grid.scale.clamp(min=torch.finfo(torch.float32).tiny)
    codes = torch.empty(weight.shape, dtype=torch.int64, device=weight.device)
    columns = weight.shape[1]
    for start in range(0, columns, _BLOCK):
        end = min(start + _BLOCK, columns)
        errors = weight.new_zeros(len(weight), end - start)
        for column in range(start, end):
            codes[:, column] = torch.bucketize(weight[:, column] / scale[:, column], middles)
            rounded = grid.levels[codes[:, column]] * scale[:, column]
            errors[:, column - start] = (weight[:, column] - rounded) / factor[column, column]
            behind = slice(column + 1, end)
            weight[:, behind] -= errors[:, column - start, None] * factor[column, behind]
        weight[:, end:] -= errors @ factor[start:end, end:]
    return codes

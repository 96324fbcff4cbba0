"""Rounding in which later weights compensate for the errors of earlier ones (GPTQ, arXiv 2210.17323).

The constants are those of plain rounding, so the result has the same bytes and needs no other kernel.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch.nn.functional import pad

from qpruner_core.forward.input_moments import InputMoments
from qpruner_core.precisions import Grid, Precision, Tensors
from qpruner_core.precisions.base import nonzero

_BLOCK = 32
_WIDTH = 32
"""Each weight is padded to a multiple of this many outputs while it is rounded."""
_STACKED = 2**23
"""Most weights that are rounded together, unless one module alone has more."""

Unrounded = tuple[torch.Tensor, Precision]
"""A weight ``[out, in]`` and its target precision."""


def encode_with_feedback(weights: Sequence[Unrounded], moments: InputMoments) -> list[Tensors]:
    """Quantize each of ``weights`` with a small output error ``E‖(W − Q)·x‖²`` over inputs ``x``, which all weights
    share.

    Inputs are rounded in the order of their size, largest first. The error of a rounded column is compensated in the
    columns that are still to be rounded, according to the correlation of their inputs. If the moments are all zero,
    weights are rounded to the nearest. A precision without a grid has its own rounding, by the importance of each
    input.
    """
    members: list[_Member] = []
    found: dict[int, Tensors] = {}
    for index, (weight, precision) in enumerate(weights):
        importance = moments.importance.to(weight.device) if moments.any else None
        constants = precision.constants(weight, importance)
        grid = precision.grid(constants)
        if grid is None or not moments.any:
            found[index] = precision.encode(weight, importance)
        else:
            members.append(_Member(index, weight, precision, constants, grid))
    for stack in _stacks(members):
        for member, codes in zip(stack, _round(stack, moments), strict=True):
            found[member.index] = member.precision.with_codes(member.constants, codes)
    return [found[index] for index in range(len(weights))]


@dataclass(frozen=True)
class _Member:
    """A weight of a stack, and the values its entries can take."""

    index: int
    weight: torch.Tensor
    precision: Precision
    constants: Tensors
    grid: Grid


def _stacks(members: Sequence[_Member]) -> Iterator[list[_Member]]:
    """``members`` that are rounded together, grouped by precision."""
    stack: list[_Member] = []
    for member in sorted(members, key=lambda member: member.precision.name):
        if stack and sum(other.weight.numel() for other in stack) + member.weight.numel() > _STACKED:
            yield stack
            stack = []
        stack.append(member)
    if stack:
        yield stack


def _round(stack: Sequence[_Member], moments: InputMoments) -> list[torch.Tensor]:
    """Level numbers (``[out, in]``) of every weight of the ``stack``.

    The result does not depend on the rest of the stack: outputs of zeros pad each weight, because processors add in
    another order if a width is not a multiple of theirs.
    """
    order = moments.order
    padding = [-len(member.weight) % _WIDTH for member in stack]
    # Columns are stored as rows: each is read and written on its own
    columns, scale = (
        torch.cat(
            [pad(each.index_select(1, order).T, (0, more)) for each, more in zip(wholes, padding, strict=True)], 1
        )
        for wholes in (
            [member.grid.shifted(member.weight.float()) for member in stack],
            [member.grid.scale.expand(member.weight.shape) for member in stack],
        )
    )
    sizes = [len(member.weight) + more for member, more in zip(stack, padding, strict=True)]
    grids: dict[str, tuple[Grid, int]] = {}  # precision -> grid, and its columns' width
    for member, size in zip(stack, sizes, strict=True):
        grids[member.precision.name] = member.grid, grids.get(member.precision.name, (member.grid, 0))[1] + size
    rounded = _round_columns(columns, scale, list(grids.values()), moments.inverse_root)
    codes = torch.empty_like(rounded)
    codes[order] = rounded
    parts = zip(stack, codes.split(sizes, dim=1), strict=True)
    return [part[:, : len(member.weight)].T.contiguous() for member, part in parts]


def _round_columns(
    columns: torch.Tensor, scale: torch.Tensor, grids: Sequence[tuple[Grid, int]], factor: torch.Tensor
) -> torch.Tensor:
    """Level numbers of the weights' ``columns [in, out]`` (float32; overwritten), one after another, counted from the
    grid's offset, which does not take part in the compensation.

    ``scale`` is ``[in, out]``, ``factor`` the upper factor ``[in, in]``; ``grids``: grid and number of outputs each.
    Columns after the current group are updated once per group.
    """
    scale = nonzero(scale)
    codes = torch.empty(columns.shape, dtype=torch.uint8, device=columns.device)
    values, numbers, levels = (torch.empty_like(columns[0]) for _ in range(3))
    widths = [width for _, width in grids]
    views = (whole.split(widths) for whole in (values, numbers, levels))
    parts = list(zip((grid for grid, _ in grids), *views, strict=True))
    count = len(columns)
    for start in range(0, count, _BLOCK):
        block = slice(start, min(start + _BLOCK, count))
        errors = torch.empty_like(columns[block])
        spread = factor[block] / factor.diagonal()[block].unsqueeze(
            1
        )  # share of these errors that every column compensates
        each = zip(columns[block], scale[block], codes[block], errors, spread[:, block], strict=True)
        for index, (column, scales, code, error, shares) in enumerate(each):
            torch.div(column, scales, out=values)
            for grid, own, number, level in parts:
                number.copy_(grid.nearest(own))
                level.copy_(grid.at(number))
            code.copy_(numbers)
            torch.addcmul(column, levels, scales, value=-1.0, out=error)
            columns[start + index + 1 : block.stop].addr_(shares[index + 1 :], error, alpha=-1.0)
        columns[block.stop :].addmm_(spread[:, block.stop :].T, errors, alpha=-1.0)
    return codes

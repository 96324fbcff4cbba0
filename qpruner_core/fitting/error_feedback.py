"""Rounding in which later weights compensate for the errors of earlier ones (GPTQ, arXiv 2210.17323).

The constants are those of plain rounding, so the result has the same bytes and needs no other kernel.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain, groupby
from typing import NamedTuple

import torch
from torch.nn.functional import pad

from qpruner_core.compute.side_by_side import side_by_side
from qpruner_core.forward.input_moments import InputMoments
from qpruner_core.precisions import Grid, Precision, Tensors
from qpruner_core.precisions.base import nonzero

_BLOCK = 32
_WIDTH = 32
"""Each weight is padded to a multiple of this many outputs while it is rounded."""
_STACKED = 2**23
"""Most weights that are rounded together."""
_LEAST = 4096
"""Outputs below which two stacks side by side take longer than one: most of the time is spent between operations."""

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
    device = weights[0][0].device
    importance = moments.importance.to(device) if moments.any else None
    begun = side_by_side([partial(_begin, *each, importance) for each in weights], device)
    members = {index: each for index, each in enumerate(begun) if isinstance(each, _Member)}
    if members:
        moments.prepare()
    stacks = list(_stacks(members, torch.get_num_threads() if device.type == "cpu" else 1))
    parts = [[piece.of(members) for piece in stack] for stack in stacks]
    rounded = side_by_side([partial(_round, part, moments) for part in parts], device)
    codes: dict[int, list[torch.Tensor]] = {}
    for piece, own in zip(chain(*stacks), chain(*rounded), strict=True):
        codes.setdefault(piece.index, []).append(own)
    return [
        each.precision.with_codes(each.constants, torch.cat(codes[index])) if isinstance(each, _Member) else each
        for index, each in enumerate(begun)
    ]


@dataclass(frozen=True)
class _Member:
    """A weight with a grid: the values its entries can take."""

    weight: torch.Tensor
    precision: Precision
    constants: Tensors
    grid: Grid


def _begin(weight: torch.Tensor, precision: Precision, importance: torch.Tensor | None) -> _Member | Tensors:
    """The constants of a ``weight``, or its tensors if it is rounded without feedback. ``importance``: that of the
    inputs; ``None``: there were none."""
    if importance is None:
        return precision.encode(weight)
    constants = precision.constants(weight, importance)
    grid = precision.grid(constants)
    return constants if grid is None else _Member(weight, precision, constants, grid)


@dataclass(frozen=True)
class _Piece:
    """These ``rows`` of the weight number ``index``."""

    index: int
    rows: slice

    def of(self, members: Mapping[int, _Member]) -> _Part:
        """Weight and grid of the piece."""
        member = members[self.index]
        return _Part(member.precision.name, member.weight[self.rows], member.grid.of_rows(self.rows))


class _Part(NamedTuple):
    precision: str
    weight: torch.Tensor
    grid: Grid


def _stacks(members: Mapping[int, _Member], count: int) -> Iterator[list[_Piece]]:
    """The ``members`` sorted by precision and cut into stacks of equal size, at least ``count`` if there are outputs
    enough: the fewer precisions are in a stack, the faster it is."""
    ordered = sorted(members, key=lambda index: (members[index].grid.whole, members[index].precision.name))
    outputs = sum(_padded(len(member.weight)) for member in members.values())
    inputs = max((member.weight.shape[1] for member in members.values()), default=1)
    size = _padded(min(max(-(-outputs // count), _LEAST), _STACKED // inputs))
    stack: list[_Piece] = []
    room = size
    for index in ordered:
        rows, start = len(members[index].weight), 0
        while start < rows:
            stop = min(start + room, rows)
            stack.append(_Piece(index, slice(start, stop)))
            room -= _padded(stop - start)
            start = stop
            if not room:
                yield stack
                stack, room = [], size
    if stack:
        yield stack


def _padded(rows: int) -> int:
    return max(1, -(-rows // _WIDTH)) * _WIDTH


def _round(stack: Sequence[_Part], moments: InputMoments) -> list[torch.Tensor]:
    """Level numbers (``[out, in]``) of every part of the ``stack``.

    The result does not depend on the rest of the stack: outputs of zeros pad each part, because processors add in
    another order if a width is not a multiple of theirs.
    """
    order = moments.order
    padding = [-len(part.weight) % _WIDTH for part in stack]
    # Columns are stored as rows: each is read and written on its own
    columns, scale = (
        torch.cat(
            [pad(each.index_select(1, order).T, (0, more)) for each, more in zip(wholes, padding, strict=True)], 1
        )
        for wholes in (
            [part.grid.shifted(part.weight.float()) for part in stack],
            [part.grid.scale.expand(part.weight.shape) for part in stack],
        )
    )
    sizes = [len(part.weight) + more for part, more in zip(stack, padding, strict=True)]
    grids: dict[str, tuple[Grid, int]] = {}  # precision -> grid, and its columns' width
    for part, size in zip(stack, sizes, strict=True):
        grids[part.precision] = part.grid, grids.get(part.precision, (part.grid, 0))[1] + size
    rounded = _round_columns(columns, scale, list(grids.values()), moments.inverse_root)
    codes = torch.empty_like(rounded)
    codes[order] = rounded
    found = zip(stack, codes.split(sizes, dim=1), strict=True)
    return [own[:, : len(part.weight)].T.contiguous() for part, own in found]


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
    levels = torch.empty_like(columns[0])
    roundings = _roundings(grids, columns.device)
    parts = [
        (to_nearest, own)
        for (to_nearest, _), own in zip(roundings, levels.split([width for _, width in roundings]), strict=True)
    ]
    widths = [width for _, width in grids]
    count = len(columns)
    for start in range(0, count, _BLOCK):
        block = slice(start, min(start + _BLOCK, count))
        errors, found = torch.empty_like(columns[block]), torch.empty_like(columns[block])
        # Share of these errors that every column compensates
        spread = factor[block] / factor.diagonal()[block].unsqueeze(1)
        each = zip(columns[block], scale[block], found, errors, spread[:, block], strict=True)
        for index, (column, scales, own, error, shares) in enumerate(each):
            torch.div(column, scales, out=levels)
            for to_nearest, part in parts:
                to_nearest(part)
            own.copy_(levels)
            torch.addcmul(column, levels, scales, value=-1.0, out=error)
            columns[start + index + 1 : block.stop].addr_(shares[index + 1 :], error, alpha=-1.0)
        columns[block.stop :].addmm_(spread[:, block.stop :].T, errors, alpha=-1.0)
        for (grid, _), own, code in zip(
            grids, found.split(widths, dim=1), codes[block].split(widths, dim=1), strict=True
        ):
            code.copy_(grid.numbers(own))
    return codes


def _roundings(
    grids: Sequence[tuple[Grid, int]], device: torch.device
) -> list[tuple[Callable[[torch.Tensor], object], int]]:
    """Functions that round to the levels of ``grids`` in place, and their numbers of outputs. Adjoining grids of whole
    numbers are rounded together, as are those with the same levels: each operation takes longer to begin than to run.
    """
    found: list[tuple[Callable[[torch.Tensor], object], int]] = []
    for levels, several in groupby(grids, key=lambda each: () if each[0].whole else tuple(each[0].levels.tolist())):
        alike = list(several)
        width = sum(width for _, width in alike)
        if not levels:
            extremes = [
                torch.tensor(grid.extremes, device=device).unsqueeze(1).expand(2, width) for grid, width in alike
            ]
            found.append((partial(_clamp_whole, *torch.cat(extremes, dim=1)), width))
        else:
            found.append((alike[0][0].to_nearest_, width))
    return found


def _clamp_whole(lowest: torch.Tensor, highest: torch.Tensor, values: torch.Tensor) -> None:
    torch.clamp(values.round_(), lowest, highest, out=values)

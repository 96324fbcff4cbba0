"""The best allocation for independent groups: a multiple-choice knapsack in true bytes, solved exactly.

A price for bytes (Lagrangian relaxation) rules out most options; SciPy's mixed-integer programming (HiGHS) decides the
rest. Among equal losses fewer bytes win, so a tighter budget never takes more bytes: if the solution of the looser one
fits, it is the solution.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import Bounds, LinearConstraint, milp
from scipy.sparse import csr_array

from qpruner_core.precision_names import size_order
from qpruner_core.search.space import Allocation, SearchSpace

_LARGEST_LOSS = 1e5
"""Loss of one option on the solver's scale; it stops at an absolute gap of 1e-6."""
_ALL_BYTES = 0.1
"""Cost on that scale of every group's largest option instead of its smallest: tiny, but visible to the solver."""

Floats = NDArray[np.float64]


def solve(space: SearchSpace, losses: Sequence[Mapping[str, float]]) -> Allocation:
    """The allocation within the budget with the least ``sum(losses[i][allocation[i]])``; among equals, one with the
    fewest bytes.

    Deterministic. ``losses`` may be negative, and must be finite.
    """
    table = _Table(space, losses)
    price = table.price()
    best = table.rounded(price)
    if table.room > 0:
        best = table.least(table.core(price, best))
    return table.allocation(best)


class _Table:
    """The non-dominated options, one row each, by group and ascending bytes: its group, its loss above the group's
    least (including the cost of its bytes), its bytes above the group's smallest. Choices are vectors of 0 and 1, one
    entry per row."""

    def __init__(self, space: SearchSpace, losses: Sequence[Mapping[str, float]]) -> None:
        self._options = [worthwhile(size, loss) for size, loss in zip(space.group_bytes, losses, strict=True)]
        rows = [(group, option) for group, options in enumerate(self._options) for option in options]
        first = [space.group_bytes[group][options[0]] for group, options in enumerate(self._options)]
        extra = [space.group_bytes[group][option] - first[group] for group, option in rows]
        unit = max(math.gcd(*extra), 1)
        loss = np.array([losses[group][option] - losses[group][self._options[group][-1]] for group, option in rows])
        self.groups = np.array([group for group, _ in rows])
        self.starts = np.cumsum([0, *(len(options) for options in self._options[:-1])])
        self.bytes: Floats = np.array(extra, dtype=np.float64) / unit
        self.loss: Floats = loss * (_LARGEST_LOSS / max(loss.max(), 1e-300))
        self.loss += self.bytes * (_ALL_BYTES / max(self.bytes.sum(), 1.0))
        self.room = (space.budget - space.fixed_bytes - sum(first)) // unit

    def price(self) -> float:
        """The loss per byte: about the least at which the choice of least loss + price * bytes fits."""
        low, high = 0.0, 1e-12
        while self.bytes @ self._at(high) > self.room:
            low, high = high, high * 16
        for _ in range(60):
            middle = (low + high) / 2
            low, high = (middle, high) if self.bytes @ self._at(middle) > self.room else (low, middle)
        return high

    def _priced(self, price: float) -> Floats:
        """Loss plus price of every row above the least of its group."""
        cost = self.loss + price * self.bytes
        above: Floats = cost - np.minimum.reduceat(cost, self.starts)[self.groups]
        return above

    def _at(self, price: float) -> Floats:
        """The choice of least loss + price * bytes in every group; the smaller among equals."""
        chosen = np.zeros(len(self.groups))
        order = np.lexsort((self.bytes, self._priced(price), self.groups))
        chosen[order[self.starts]] = 1
        return chosen

    def rounded(self, price: float) -> Floats:
        """A good choice: that of ``price``, plus options that still fit, cheapest first."""
        chosen = self._at(price)
        room = self.room - self.bytes @ chosen
        for row in np.argsort(self._priced(price), kind="stable"):
            start = self.starts[self.groups[row]]
            members = slice(start, start + len(self._options[self.groups[row]]))
            rise = self.bytes[row] - self.bytes[members] @ chosen[members]
            if self.loss[row] < self.loss[members] @ chosen[members] and rise <= room:
                chosen[members] = 0
                chosen[row] = 1
                room -= rise
        return chosen

    def core(self, price: float, best: Floats) -> NDArray[np.bool_]:
        """The rows that a better choice than ``best`` can have: others cost more, whatever the other groups have."""
        cost = self.loss + price * self.bytes
        bound = float(np.minimum.reduceat(cost, self.starts).sum()) - price * self.room
        kept: NDArray[np.bool_] = self._priced(price) <= float(self.loss @ best) - bound + 1e-6 * _LARGEST_LOSS
        return kept

    def least(self, core: NDArray[np.bool_]) -> Floats:
        """The choice of least loss among the rows of ``core`` within the room."""
        rows = np.flatnonzero(core)
        _, members = np.unique(self.groups[rows], return_inverse=True)
        each = csr_array((np.ones(len(rows)), (members, np.arange(len(rows)))))
        room = self.room
        while True:
            found = milp(
                self.loss[rows],
                integrality=np.ones(len(rows)),
                bounds=Bounds(0, 1),
                constraints=[LinearConstraint(each, 1, 1), LinearConstraint(self.bytes[rows][None], -np.inf, room)],
                options={"mip_rel_gap": 0.0},
            )
            chosen = np.zeros(len(self.groups))
            chosen[rows] = np.round(found.x)
            excess = round(float(self.bytes @ chosen)) - self.room
            if excess <= 0:
                return chosen
            room -= excess  # the solver's tolerances admit solutions that integers do not

    def allocation(self, chosen: Floats) -> Allocation:
        """The precision of each group."""
        options = [option for options in self._options for option in options]
        return tuple(options[row] for row in np.flatnonzero(chosen))


def worthwhile(size: Mapping[str, int], loss: Mapping[str, float]) -> list[str]:
    """The non-dominated options in bytes and loss, by ascending bytes."""
    kept: list[str] = []
    for option in sorted(size, key=lambda option: (size[option], loss[option], size_order(option))):
        if not kept or loss[option] < loss[kept[-1]]:
            kept.append(option)
    return kept

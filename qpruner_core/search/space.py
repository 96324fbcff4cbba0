"""The search space: options of each group, their bytes, and the byte budget of all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

from qpruner_core.errors import BudgetInfeasibleError
from qpruner_core.precision_names import size_order
from qpruner_core.sizes import format_bytes

if TYPE_CHECKING:
    from qpruner_core.mixed.memory_model import MemoryModel

Allocation = tuple[str, ...]
"""Names of the precision of each group, in the order of the space's groups."""


@dataclass(frozen=True)
class SearchSpace:
    """All allocations, and which of them meet ``budget``.

    Attributes:
        group_bytes: bytes of each group at each of its options.
        fixed_bytes: bytes of everything without options.
        budget: bytes that groups and fixed parts may take together.
        layers: index of each group's layer, ``None`` outside the layers (embeddings).
    """

    group_bytes: Sequence[Mapping[str, int]]
    fixed_bytes: int
    budget: int
    layers: Sequence[int | None]

    def __post_init__(self) -> None:
        least = self.total(self.smallest)
        if least > self.budget:
            raise BudgetInfeasibleError(
                f"The model takes at least {format_bytes(least)}; the budget is {format_bytes(self.budget)}.",
                smallest_feasible_bytes=least,
                remedy=f"Give at least {least} bytes, or prune more.",
            )

    @classmethod
    def of(cls, memory: MemoryModel, budget: int) -> SearchSpace:
        """The space of ``memory``'s groups under ``budget`` bytes."""
        return cls(memory.group_bytes, memory.fixed_bytes, budget, [group.layer for group in memory.groups])

    def __len__(self) -> int:
        return len(self.group_bytes)

    def options(self, group: int) -> tuple[str, ...]:
        """The precisions that ``group`` may have, by ascending size."""
        return tuple(sorted(self.group_bytes[group], key=size_order))

    def total(self, allocation: Sequence[str]) -> int:
        """Bytes of the model when group ``i`` has ``allocation[i]``."""
        return self.fixed_bytes + sum(size[option] for size, option in zip(self.group_bytes, allocation, strict=True))

    def fits(self, allocation: Sequence[str]) -> bool:
        """Whether ``allocation`` meets the budget."""
        return self.total(allocation) <= self.budget

    @cached_property
    def smallest(self) -> Allocation:
        """The allocation of fewest bytes: for a tiny group, constants may make the smallest precision larger."""
        return tuple(min(size, key=lambda option: (size[option], size_order(option))) for size in self.group_bytes)

    @cached_property
    def largest(self) -> Allocation:
        """The allocation with every group at its largest precision, whether or not it meets the budget."""
        return tuple(max(size, key=size_order) for size in self.group_bytes)

    def with_budget(self, budget: int) -> SearchSpace:
        """The same groups under another budget.

        Raises:
            BudgetInfeasibleError: the smallest allocation does not fit.
        """
        return replace(self, budget=budget)

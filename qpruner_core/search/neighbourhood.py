"""The part of a space around its knapsack, for a search with few trials."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from qpruner_core.search import knapsack
from qpruner_core.search.space import SearchSpace


def near(space: SearchSpace, losses: Sequence[Mapping[str, float]]) -> SearchSpace:
    """``space`` with the options of each group that its knapsack over ``losses`` has, and the next non-dominated ones
    below and above in bytes."""
    chosen = knapsack.solve(space, losses)
    each = zip(space.group_bytes, losses, chosen, strict=True)
    return replace(space, group_bytes=[_beside(sizes, loss, option) for sizes, loss, option in each])


def _beside(sizes: Mapping[str, int], loss: Mapping[str, float], chosen: str) -> dict[str, int]:
    order = knapsack.worthwhile(sizes, loss)
    if chosen not in order:
        return {chosen: sizes[chosen]}
    place = order.index(chosen)
    return {option: sizes[option] for option in order[max(place - 1, 0) : place + 2]}

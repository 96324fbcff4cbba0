"""Allocations near good ones, all within the budget: the candidates of the next proposal."""

from __future__ import annotations

import random
from collections.abc import Sequence

from qpruner_core.precision_names import size_order
from qpruner_core.search.seeds import at_random
from qpruner_core.search.space import Allocation, SearchSpace

_AT_RANDOM = 0.2
_CHANGES = (1, 1, 2, 3)


def candidates(
    space: SearchSpace, parents: Sequence[Allocation], count: int, generator: random.Random
) -> list[Allocation]:
    """Up to ``count`` different allocations: swaps of precisions between groups of ``parents``, and random ones."""
    found: dict[Allocation, None] = {}
    for _ in range(count):
        if not parents or generator.random() < _AT_RANDOM:
            found[at_random(space, generator)] = None
        else:
            found[swap(space, generator.choice(parents), generator)] = None
    return list(found)


def swap(space: SearchSpace, allocation: Allocation, generator: random.Random) -> Allocation:
    """Change some groups at random, lower random others until the budget holds again, and spend the remaining room."""
    changed = list(allocation)
    for group in generator.sample(range(len(space)), min(generator.choice(_CHANGES), len(space))):
        changed[group] = generator.choice(space.options(group))
    room = space.budget - space.total(changed)
    while room < 0:
        sizes = [space.group_bytes[group] for group in range(len(space))]
        lowerable = [group for group, size in enumerate(sizes) if size[changed[group]] > min(size.values())]
        group = generator.choice(lowerable)
        now = sizes[group][changed[group]]
        changed[group] = generator.choice([option for option in space.options(group) if sizes[group][option] < now])
        room += now - sizes[group][changed[group]]
    for group in generator.sample(range(len(space)), len(space)):
        size = space.group_bytes[group]
        now = size[changed[group]]
        higher = [
            option
            for option in space.options(group)
            if size_order(option) > size_order(changed[group]) and size[option] - now <= room
        ]
        if higher:
            changed[group] = generator.choice(higher)
            room -= size[changed[group]] - now
    return tuple(changed)

"""Allocations without a search, as starting points or for comparison. All meet the budget."""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence

from qpruner_core.precision_names import size_order
from qpruner_core.search.space import Allocation, SearchSpace


def uniform(space: SearchSpace) -> Allocation:
    """The highest precision that all layers can have; parts outside the layers take the rest."""
    allocation = space.smallest
    for wanted in sorted({option for group in range(len(space)) for option in space.options(group)}, key=size_order):
        raised = tuple(
            wanted if layer is not None and wanted in space.group_bytes[group] else allocation[group]
            for group, layer in enumerate(space.layers)
        )
        if space.fits(raised):
            allocation = raised
    return by_order(space, [group for group, layer in enumerate(space.layers) if layer is None], allocation)


def by_mutual_information(space: SearchSpace, mutual_information: Sequence[float]) -> Allocation:
    """The paper's allocation: the more information a layer has about the prediction, the sooner it gets a higher
    precision; groups outside the layers, which have no mutual information, come last."""
    in_layers = [(group, layer) for group, layer in enumerate(space.layers) if layer is not None]
    order = [group for group, layer in sorted(in_layers, key=lambda pair: -mutual_information[pair[1]])]
    return by_order(space, order + [group for group, layer in enumerate(space.layers) if layer is None])


def by_order(space: SearchSpace, order: Iterable[int], start: Allocation | None = None) -> Allocation:
    """Raise groups in ``order``, each to the next precision while the budget holds, until none can rise."""
    allocation = list(start or space.smallest)
    room = space.budget - space.total(allocation)
    order = list(order)
    for target in sorted({option for group in order for option in space.options(group)}, key=size_order):
        for group in order:
            sizes = space.group_bytes[group]
            if (
                target in sizes
                and size_order(target) > size_order(allocation[group])
                and sizes[target] - sizes[allocation[group]] <= room
            ):
                room -= sizes[target] - sizes[allocation[group]]
                allocation[group] = target
    return tuple(allocation)


def at_random(space: SearchSpace, generator: random.Random) -> Allocation:
    """Set groups in random order to random precisions while the budget holds."""
    allocation = list(space.smallest)
    room = space.budget - space.total(allocation)
    for group in generator.sample(range(len(space)), len(space)):
        sizes = space.group_bytes[group]
        option = generator.choice(
            [option for option in space.options(group) if sizes[option] - sizes[allocation[group]] <= room]
        )
        room -= sizes[option] - sizes[allocation[group]]
        allocation[group] = option
    return tuple(allocation)

"""Allocations that the search starts from. All keep the budget."""

from __future__ import annotations

import random
from collections.abc import Iterable

from qpruner_core.allocate.memory_model import MemoryModel
from qpruner_core.score.scores import Scores

Allocation = tuple[int, ...]
"""Bits of each layer, first to last."""


def uniform(memory: MemoryModel, precisions: tuple[int, ...], budget: int) -> Allocation:
    """The highest precision that all layers can have."""
    fitting = [bits for bits in precisions if memory.total([bits] * memory.layers) <= budget]
    return (max(fitting),) * memory.layers


def by_order(memory: MemoryModel, precisions: tuple[int, ...], budget: int, order: Iterable[int]) -> Allocation:
    """Raise layers in ``order``, each to the next precision while the budget holds, until no layer can rise."""
    bits = [precisions[0]] * memory.layers
    order = list(order)
    for target in precisions[1:]:
        for layer in order:
            raised = [*bits[:layer], target, *bits[layer + 1 :]]
            if memory.total(raised) <= budget:
                bits = raised
    return tuple(bits)


def by_mutual_information(memory: MemoryModel, precisions: tuple[int, ...], budget: int, scores: Scores) -> Allocation:
    """The paper's allocation: the more a layer tells of the prediction, the sooner it gets more bits."""
    order = sorted(range(memory.layers), key=lambda layer: -scores.mutual_information[layer])
    return by_order(memory, precisions, budget, order)


def by_sensitivity(memory: MemoryModel, precisions: tuple[int, ...], budget: int, scores: Scores) -> Allocation:
    """Spend bytes where each saves most divergence, one rise at a time."""
    bits = [precisions[0]] * memory.layers
    while True:
        room = budget - memory.total(bits)
        rises = [
            (_gain_per_byte(memory, scores, layer, bits[layer], higher), layer, higher)
            for layer in range(memory.layers)
            for higher in precisions
            if higher > bits[layer] and memory.layer(layer, higher) - memory.layer(layer, bits[layer]) <= room
        ]
        if not rises:
            return tuple(bits)
        _, layer, higher = max(rises, key=lambda rise: (rise[0], -rise[1], -rise[2]))
        bits[layer] = higher


def _gain_per_byte(memory: MemoryModel, scores: Scores, layer: int, old: int, new: int) -> float:
    saved = scores.sensitivity[layer][old] - scores.sensitivity[layer][new]
    return saved / (memory.layer(layer, new) - memory.layer(layer, old))


def at_random(memory: MemoryModel, precisions: tuple[int, ...], budget: int, generator: random.Random) -> Allocation:
    """Raise layers in random order to random precisions while the budget holds."""
    bits = [precisions[0]] * memory.layers
    for layer in generator.sample(range(memory.layers), memory.layers):
        room = budget - memory.total(bits)
        affordable = [bit for bit in precisions if memory.layer(layer, bit) - memory.layer(layer, bits[layer]) <= room]
        bits[layer] = generator.choice(affordable)
    return tuple(bits)

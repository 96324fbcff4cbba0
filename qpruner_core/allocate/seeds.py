"""Allocations that the search starts from. All keep the budget."""

from __future__ import annotations

import math
import random
from collections.abc import Iterable

from qpruner_core.allocate.memory_model import MemoryModel
from qpruner_core.score.scores import Scores

Allocation = tuple[int, ...]
"""Bits of each group, in the order of the memory model's groups."""


def uniform(memory: MemoryModel, budget: int) -> Allocation:
    """The highest precision that all layers can have; embeddings at the highest that then fits."""
    fitting = [memory.lowest]
    for bits in (4, 8, 16):
        wanted = tuple(
            bits if group.layer is not None and bits in group.options else lowest
            for group, lowest in zip(memory.groups, memory.lowest, strict=True)
        )
        if memory.total(wanted) <= budget:
            fitting.append(wanted)
    embeddings = [index for index, group in enumerate(memory.groups) if group.layer is None]
    return by_order(memory, budget, embeddings, start=fitting[-1])


def by_order(memory: MemoryModel, budget: int, order: Iterable[int], start: Allocation | None = None) -> Allocation:
    """Raise groups in ``order``, each to the next precision while the budget holds, until none can rise."""
    bits = list(start or memory.lowest)
    order = list(order)
    for target in (8, 16):
        for index in order:
            raised = [*bits[:index], target, *bits[index + 1 :]]
            if target in memory.groups[index].options and target > bits[index] and memory.total(raised) <= budget:
                bits = raised
    return tuple(bits)


def by_mutual_information(memory: MemoryModel, budget: int, scores: Scores) -> Allocation:
    """The paper's allocation: the more a layer tells of the prediction, the sooner it gets more bits; embeddings last,
    of which it says nothing."""

    def information(index: int) -> float:
        layer = memory.groups[index].layer
        return -math.inf if layer is None else scores.mutual_information[layer]

    return by_order(memory, budget, sorted(range(len(memory.groups)), key=lambda index: -information(index)))


def by_sensitivity(memory: MemoryModel, budget: int, scores: Scores) -> Allocation:
    """Spend bytes where each saves most divergence, one rise at a time."""
    bits = list(memory.lowest)
    while True:
        room = budget - memory.total(bits)
        rises = [
            (_gain_per_byte(memory, scores, layer, bits[layer], higher), layer, higher)
            for layer, group in enumerate(memory.groups)
            for higher in group.options
            if higher > bits[layer] and memory.group(layer, higher) - memory.group(layer, bits[layer]) <= room
        ]
        if not rises:
            return tuple(bits)
        _, layer, higher = max(rises, key=lambda rise: (rise[0], -rise[1], -rise[2]))
        bits[layer] = higher


def _gain_per_byte(memory: MemoryModel, scores: Scores, layer: int, old: int, new: int) -> float:
    saved = scores.sensitivity[layer][old] - scores.sensitivity[layer][new]
    return saved / (memory.group(layer, new) - memory.group(layer, old))


def at_random(memory: MemoryModel, budget: int, generator: random.Random) -> Allocation:
    """Raise groups in random order to random precisions while the budget holds."""
    bits = list(memory.lowest)
    for index in generator.sample(range(len(bits)), len(bits)):
        room = budget - memory.total(bits)
        affordable = [
            bit
            for bit in memory.groups[index].options
            if memory.group(index, bit) - memory.group(index, bits[index]) <= room
        ]
        bits[index] = generator.choice(affordable)
    return tuple(bits)

"""Options are ordered by their size: in the alphabet, bf16 comes first."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qpruner_core.precision_names import BITS_PER_WEIGHT
from qpruner_core.search.knapsack import solve
from qpruner_core.search.learned_losses import learned_losses
from qpruner_core.search.seeds import by_mutual_information, uniform
from qpruner_core.search.space import SearchSpace
from tests.core.search.spaces import spaces

SIZES = {"nf4": 10, "int8": 20, "bf16": 40}


def test_the_largest_allocation_is_that_of_the_largest_precisions() -> None:
    space = SearchSpace([SIZES, {"int8": 20, "bf16": 40}, {"nf4": 10, "int8": 20}], 0, 40, [0, 1, None])
    assert space.largest == ("bf16", "bf16", "int8")
    assert space.smallest == ("nf4", "int8", "nf4")
    assert space.options(0) == ("nf4", "int8", "bf16")


@given(space=spaces())
def test_a_budget_for_everything_gives_everything_its_largest_precision(space: SearchSpace) -> None:
    roomy = space.with_budget(space.total(space.largest))
    information = [float(layer) for layer in space.layers if layer is not None]
    losses = [{option: 1 / BITS_PER_WEIGHT[option] for option in size} for size in space.group_bytes]
    assert uniform(roomy) == by_mutual_information(roomy, information) == solve(roomy, losses) == space.largest


@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=1, max_size=6), st.integers(0, 99))
def test_learned_costs_never_fall_with_a_smaller_precision(steps: list[tuple[float, float]], seed: int) -> None:
    scores = [{"nf4": low + high, "int8": high, "bf16": 0.0} for low, high in steps]
    generator = random.Random(seed)
    allocations = list({tuple(generator.choice(list(SIZES)) for _ in scores) for _ in range(5)})
    losses = [generator.uniform(0.1, 2.0) for _ in allocations]
    for costs in learned_losses(scores, allocations, losses).costs:
        assert costs["nf4"] >= costs["int8"] >= costs["bf16"] >= 0


def test_precisions_of_one_size_cost_what_they_are_scored_and_not_the_sum(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(BITS_PER_WEIGHT, "as_large", BITS_PER_WEIGHT["nf4"])
    scores = [{"nf4": 0.5, "as_large": 0.4, "bf16": 0.0}, {"as_large": 0.2, "nf4": 0.3, "bf16": 0.0}]
    found = learned_losses(scores, [], []).costs
    for costs, score in zip(found, scores, strict=True):
        assert costs == pytest.approx(score)

from __future__ import annotations

import itertools
import math
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qpruner_core.errors import BudgetInfeasibleError
from qpruner_core.search.knapsack import solve
from qpruner_core.search.space import SearchSpace

Losses = list[dict[str, float]]
LOSS = st.floats(-1, 15).map(lambda value: round(value, 5))


@st.composite
def problems(draw: st.DrawFn, *, largest: int = 6) -> tuple[SearchSpace, Losses]:
    """Groups with one to three options; a larger precision may take fewer bytes, as in a module of few rows, or hurt
    more."""
    groups = draw(st.integers(1, largest))
    options = [
        draw(st.sampled_from([("nf4", "int8", "bf16"), ("int8", "bf16"), ("nf4", "int8"), ("nf4",)]))
        for _ in range(groups)
    ]
    sizes = [{option: draw(st.integers(1, 60)) for option in of} for of in options]
    losses = [{option: draw(st.sampled_from([0.0, 0.25, 0.5]) | LOSS) for option in of} for of in options]
    low, high = (7 + sum(pick(size.values()) for size in sizes) for pick in (min, max))
    space = SearchSpace(sizes, 7, draw(st.integers(low, high + 5)), [None] * groups)
    return space, losses


def loss_of(losses: Losses, allocation: tuple[str, ...]) -> float:
    return math.fsum(loss[option] for loss, option in zip(losses, allocation, strict=True))


@settings(deadline=None, max_examples=100)
@given(problem=problems())
def test_no_allocation_within_the_budget_loses_less_or_reaches_the_same_in_fewer_bytes(
    problem: tuple[SearchSpace, Losses],
) -> None:
    space, losses = problem
    found = solve(space, losses)
    assert space.fits(found)
    everything = [each for each in itertools.product(*map(space.options, range(len(space)))) if space.fits(each)]
    least = min(loss_of(losses, each) for each in everything)
    assert loss_of(losses, found) == pytest.approx(least, rel=1e-5, abs=1e-5)
    equals = [each for each in everything if loss_of(losses, each) == least]
    assert space.total(found) <= min(space.total(each) for each in equals)


@settings(deadline=None, max_examples=100)
@given(problem=problems(), tighter=st.integers(0, 60))
def test_a_tighter_budget_never_takes_more_bytes(problem: tuple[SearchSpace, Losses], tighter: int) -> None:
    space, losses = problem
    tight = space.with_budget(max(space.budget - tighter, space.total(space.smallest)))
    assert space.total(solve(tight, losses)) <= space.total(solve(space, losses))


@pytest.mark.parametrize("groups", [30, 90])
def test_real_sizes_are_solved_within_the_budget_and_closely_fill_it(groups: int) -> None:
    generator = random.Random(groups)
    weights = [generator.choice([192 * 576, 576 * 576, 1536 * 576]) for _ in range(groups)]
    sizes = [
        {"nf4": weight // 2 + weight // 64 + 1100, "int8": weight + 4 * 576, "bf16": 2 * weight} for weight in weights
    ]
    losses = []
    for _ in range(groups):
        four = math.exp(generator.gauss(-5, 1.5))
        losses.append({"nf4": four, "int8": four / generator.uniform(20, 100), "bf16": 0.0})
    low, high = (sum(size[option] for size in sizes) for option in ("nf4", "bf16"))
    space = SearchSpace(sizes, 0, low + (high - low) // 3, [None] * groups)
    found = solve(space, losses)
    assert space.fits(found)
    assert found == solve(space, losses)
    for group, option in enumerate(found):  # no single rise that fits would help
        for other in space.options(group):
            changed = (*found[:group], other, *found[group + 1 :])
            assert losses[group][other] >= losses[group][option] or not space.fits(changed)


def test_bytes_that_save_no_loss_are_not_spent() -> None:
    space = SearchSpace([{"nf4": 1, "int8": 2, "bf16": 4}] * 2, 0, 8, [0, 1])
    losses = [{"nf4": 1.0, "int8": 0.5, "bf16": 0.5}, {"nf4": 0.2, "int8": 0.2, "bf16": 0.2}]
    assert solve(space, losses) == ("int8", "nf4")


def test_a_budget_below_the_smallest_allocation_is_refused_with_the_bytes_it_takes() -> None:
    with pytest.raises(BudgetInfeasibleError) as caught:
        SearchSpace([{"nf4": 10, "int8": 20}], 5, 14, [0])
    assert caught.value.smallest_feasible_bytes == 15

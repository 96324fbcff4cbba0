from __future__ import annotations

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from qpruner_core.fitting.rank_allocation import allocate_ranks, rank_gains
from qpruner_core.precisions import precisions
from qpruner_core.quantize.config import QuantizeConfig


@st.composite
def problems(draw: st.DrawFn) -> tuple[dict[str, list[float]], dict[str, tuple[int, int]], int]:
    rank = draw(st.integers(1, 6))
    names = [f"m{index}" for index in range(draw(st.integers(1, 8)))]
    gains = {
        name: sorted(draw(st.lists(st.floats(0, 1), min_size=4 * rank, max_size=4 * rank)), reverse=True)
        for name in names
    }
    shapes = {name: (draw(st.integers(1, 64)), draw(st.integers(1, 64))) for name in names}
    return gains, shapes, rank


@settings(deadline=None)
@given(problem=problems())
def test_adapters_take_at_most_the_bytes_of_uniform_ones_and_less_than_one_rank_fewer(
    problem: tuple[dict[str, list[float]], dict[str, tuple[int, int]], int],
) -> None:
    gains, shapes, rank = problem
    ranks = allocate_ranks(gains, shapes, rank)
    uniform = sum(rank * sum(shape) for shape in shapes.values())
    used = sum(ranks[name] * sum(shape) for name, shape in shapes.items())
    assert all(ranks[name] >= 1 for name in shapes)
    assert uniform - max(sum(shape) for shape in shapes.values()) < used <= uniform


def test_ranks_take_away_as_much_as_the_best_choice_of_the_same_bytes() -> None:
    gains = {"a": [9.0, 7, 5, 3, 1, 1, 1, 1], "b": [4.0, 2, 1, 1, 0, 0, 0, 0], "c": [8.0, 8, 1, 1, 0, 0, 0, 0]}
    shapes = dict.fromkeys(gains, (8, 8))
    ranks = allocate_ranks(gains, shapes, 2)

    def taken(choice: dict[str, int]) -> float:
        return sum(sum(gains[name][:count]) for name, count in choice.items())

    others = [dict(zip(gains, counts, strict=True)) for counts in itertools.product(range(1, 5), repeat=3)]
    best = max(taken(other) for other in others if sum(other.values()) == 6)
    assert sum(ranks.values()) == 6
    assert taken(ranks) == best


def test_where_all_gain_alike_ranks_are_uniform() -> None:
    gains = {name: [1 / (k + 1) for k in range(12)] for name in "abcd"}
    assert allocate_ranks(gains, dict.fromkeys("abcd", (16, 24)), 3) == dict.fromkeys("abcd", 3)


def test_gains_are_what_each_rank_takes_away_of_the_outputs_error() -> None:
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(48, 64, generator=generator).to(torch.bfloat16)
    scale = torch.rand(64, generator=generator) + 0.1
    kind = precisions(QuantizeConfig())["nf4"]
    gains = rank_gains(weight, kind, scale, rank=16, seed=0)
    error = (weight.float() - kind.decode(kind.encode(weight)).float()) * scale
    whole = error.square().sum() / (weight.float() * scale).square().sum()
    assert len(gains) == 64
    assert gains == sorted(gains, reverse=True)
    assert gains[48:] == [0.0] * 16
    assert sum(gains) == pytest.approx(whole.item(), rel=1e-3)
    assert rank_gains(weight, precisions(QuantizeConfig())["bf16"], scale, rank=16, seed=0) == [0.0] * 64

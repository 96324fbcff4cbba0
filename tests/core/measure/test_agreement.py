"""Divergence from the dense model and equal first choices, on the first tokens of a text."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from qpruner_core.errors import NotFiniteError
from qpruner_core.measure.agreement import Comparison, DensePredictions

VOCABULARY = 7


def some_logits(seed: int, parts: int, tokens: int) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [3 * torch.randn(tokens, VOCABULARY, generator=generator).bfloat16() for _ in range(parts)]


def compared(dense: list[torch.Tensor], other: list[torch.Tensor], most_bytes: int) -> Comparison:
    predictions = DensePredictions(most_bytes)
    for logits in dense:
        predictions.keep(logits)
    comparison = Comparison(predictions)
    for logits in other:
        comparison.add(logits)
    return comparison


@given(seed=st.integers(0, 99), parts=st.integers(1, 4), tokens=st.integers(1, 9), room=st.integers(0, 40))
def test_it_is_the_mean_over_the_first_tokens_that_there_is_room_for(
    seed: int, parts: int, tokens: int, room: int
) -> None:
    dense, other = some_logits(seed, parts, tokens), some_logits(seed + 100, parts, tokens)
    found = compared(dense, other, room * 2 * VOCABULARY).result()
    count = min(max(room, 1), parts * tokens)
    p, q = (torch.cat(each)[:count].double().log_softmax(-1) for each in (dense, other))
    assert found.tokens == count
    assert found.divergence == pytest.approx((p.exp() * (p - q)).sum(-1).mean().item(), rel=1e-3, abs=1e-5)
    assert found.top1 == (p.argmax(-1) == q.argmax(-1)).double().mean().item()


@given(seed=st.integers(0, 99))
def test_a_model_agrees_with_itself(seed: int) -> None:
    dense = some_logits(seed, 2, 5)
    found = compared(dense, dense, 2**20).result()
    assert (found.divergence, found.top1) == (pytest.approx(0, abs=1e-6), 1.0)


def test_predictions_that_are_not_numbers_are_refused() -> None:
    dense = some_logits(0, 1, 5)
    with pytest.raises(NotFiniteError):
        compared(dense, [torch.full_like(dense[0], math.nan)], 2**20).result()

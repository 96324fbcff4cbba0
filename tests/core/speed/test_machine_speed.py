from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.made_up_speed import made_up_speed

SPEED = made_up_speed()


@given(st.floats(min_value=1e3, max_value=1e10), st.floats(min_value=1.0, max_value=10.0))
def test_a_larger_layer_is_never_quicker(weights: float, factor: float) -> None:
    smaller, larger = SPEED.layer("forward", weights), SPEED.layer("forward", weights * factor)
    assert larger.per_token >= smaller.per_token * (1 - 1e-9)
    assert larger.call >= smaller.call * (1 - 1e-9)


def test_a_layer_that_was_measured_takes_what_was_measured_and_one_beyond_in_proportion() -> None:
    largest = SPEED.layers[-1]
    assert SPEED.layer("training", largest.weights) == largest.passes["training"]
    assert SPEED.layer("training", 10 * largest.weights).per_token == pytest.approx(
        10 * largest.passes["training"].per_token
    )

from __future__ import annotations

from typing import cast

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from qpruner_core.fitting.error_feedback import encode_with_feedback
from qpruner_core.forward.input_moments import InputMoments
from qpruner_core.precisions import Precision
from qpruner_core.precisions.ggml import BlockFormat, ScalarFormat, block_format
from tests.core.precisions.ggml.weights import BLOCKS, SCALARS, error, importances, weights

blocks = pytest.mark.parametrize("precision", BLOCKS, ids=lambda precision: precision.name)
scalars = pytest.mark.parametrize("precision", SCALARS, ids=lambda precision: precision.name)


def plain(precision: ScalarFormat, weight: torch.Tensor) -> torch.Tensor:
    """``weight`` at scales that reach from the least to the largest of each part, which are not rounded."""
    parts = weight.float().view(-1, precision.part)
    if "dmin" in precision.floats or "m" in precision.floats:
        low = parts.amin(dim=1, keepdim=True).clamp(max=0)
        scale = (parts.amax(dim=1, keepdim=True) - low) / precision.highest
        return (((parts - low) / scale).round() * scale + low).view(weight.shape)
    scale = parts.abs().amax(dim=1, keepdim=True) / precision.highest
    grid = precision._grid(scale, None)
    return grid.rounded(parts).view(weight.shape)


@scalars
def test_the_error_is_not_above_that_of_scales_that_reach_to_the_extremes(precision: ScalarFormat) -> None:
    weight = weights(64, 1024)
    own = error(precision.values(precision.encode(weight)), weight)
    assert own < 1.01 * error(plain(precision, weight), weight)


@blocks
def test_importance_lowers_the_error_that_it_weighs(precision: BlockFormat) -> None:
    weight, importance = weights(64, 1024), importances(1024)
    with_it = precision.values(precision.encode(weight, importance))
    without = precision.values(precision.encode(weight))
    assert error(with_it, weight, importance) < error(without, weight, importance)
    assert error(without, weight) < error(with_it, weight)


@blocks
def test_importance_that_is_the_same_everywhere_changes_nothing(precision: BlockFormat) -> None:
    weight = weights(16, 512)
    plain = precision.encode(weight)["weight"]
    assert torch.equal(precision.encode(weight, torch.ones(512))["weight"], plain)
    assert torch.equal(precision.encode(weight, torch.zeros(512))["weight"], plain)


@blocks
def test_inputs_that_are_never_there_do_not_spoil_their_weights(precision: BlockFormat) -> None:
    weight = weights(16, 1024)
    importance = torch.ones(1024)
    importance[256:512] = 0
    found = precision.values(precision.encode(weight, importance))
    assert error(found, weight) < 1.2 * error(precision.values(precision.encode(weight)), weight)


@blocks
@settings(max_examples=10, deadline=None)
@given(exponent=st.integers(-3, 8), seed=st.integers(0, 2**32))
def test_sizes_do_not_matter_as_far_as_float16_holds_the_constants(
    precision: BlockFormat, exponent: int, seed: int
) -> None:
    weight = weights(2, 512, seed) * 2.0**8
    own = precision.values(precision.encode(weight))
    other = precision.values(precision.encode(weight * 2.0**exponent)) / 2.0**exponent
    assert error(other, weight) < 1.1 * error(own, weight)


@blocks
def test_zeros_stay_zeros(precision: BlockFormat) -> None:
    assert not precision.values(precision.encode(torch.zeros(3, 512, dtype=torch.bfloat16))).any()


@scalars
@pytest.mark.parametrize("value", [1.0, -0.37, 1000.0])
def test_rows_of_one_value_are_near_it(precision: ScalarFormat, value: float) -> None:
    weight = torch.full((3, 512), value, dtype=torch.bfloat16)
    found = precision.values(precision.encode(weight))
    torch.testing.assert_close(found, weight.float(), rtol=2e-2, atol=0)


@blocks
@pytest.mark.parametrize("size", [3e38, 1e20, 1e-20, 1e-38, 1e-40])
def test_the_largest_and_the_smallest_weights_stay_finite(precision: BlockFormat, size: float) -> None:
    weight = weights(4, 512).sign() * size
    weight[1] = weights(1, 512)[0]
    weight[2, 7] = 1.0
    for importance in (None, importances(512)):
        tensors = precision.encode(weight.to(torch.bfloat16), importance)
        values = precision.values(tensors)
        assert values.isfinite().all()
        assert all(scale.isfinite().all() for scale in precision.scales(tensors).values())
        torch.testing.assert_close(values[1], precision.values(precision.encode(weight[1:2], importance))[0])


@blocks
def test_what_a_row_becomes_does_not_depend_on_the_others(
    precision: BlockFormat, monkeypatch: pytest.MonkeyPatch
) -> None:
    weight, importance = weights(37, 768), importances(768)
    whole = precision.encode(weight, importance)
    assert torch.equal(precision.encode(weight, importance)["weight"], whole["weight"])
    values = precision.values(whole)
    monkeypatch.setattr(block_format, "_AT_ONCE", 5 * 768)
    assert torch.equal(precision.encode(weight, importance)["weight"], whole["weight"])
    assert torch.equal(precision.encode(weight[3:4], importance)["weight"], whole["weight"][3:4])
    assert torch.equal(precision.values(whole), values)


@scalars
def test_feedback_leaves_less_error_in_the_output_than_the_nearest(precision: ScalarFormat) -> None:
    weight = weights(48, 512)
    generator = torch.Generator().manual_seed(2)
    inputs = torch.randn(2000, 60, generator=generator) @ torch.randn(60, 512, generator=generator)
    inputs = inputs * torch.randn(512, generator=generator).exp() + torch.randn(2000, 512, generator=generator)
    moments = InputMoments(inputs.T @ inputs, len(inputs))
    kind = cast(Precision, precision)
    fed = encode_with_feedback([(weight, kind)], moments)[0]
    nearest = precision.encode(weight, moments.importance)
    errors = [(inputs @ (weight.float() - precision.values(each)).T).norm() for each in (fed, nearest)]
    assert errors[0] < 0.7 * errors[1]
    constants = precision.constants(weight, moments.importance)
    grid, own = precision.grid(fed), precision.grid(constants)
    assert grid is not None
    assert own is not None
    assert torch.equal(grid.scale, own.scale)


def test_precisions_of_one_stack_do_not_change_each_other() -> None:
    generator = torch.Generator().manual_seed(3)
    inputs = torch.randn(600, 40, generator=generator) @ torch.randn(40, 256, generator=generator)
    moments = InputMoments(inputs.T @ inputs, len(inputs))
    stack = [(weights(24, 256, seed), cast(Precision, kind)) for seed, kind in enumerate(BLOCKS)]
    together = encode_with_feedback(stack, moments)
    for one, found in zip(stack, together, strict=True):
        alone = encode_with_feedback([one], moments)[0]
        assert torch.equal(alone["weight"], found["weight"])

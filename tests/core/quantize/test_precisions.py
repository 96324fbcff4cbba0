from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from qpruner_core.evaluate.memory import loaded_bytes
from qpruner_core.precisions import precisions

KINDS = [(4, True), (4, False), (8, True), (16, True)]


def weight(rows: int, columns: int) -> torch.Tensor:
    return torch.randn(rows, columns, generator=torch.Generator().manual_seed(rows * columns)).to(torch.bfloat16)


@pytest.mark.parametrize(("bits", "double_quant"), KINDS)
def test_the_module_multiplies_the_rounded_input_with_the_decoded_weight(bits: int, double_quant: bool) -> None:
    kind = precisions(double_quant)[bits]
    tensors = kind.encode(weight(96, 128))
    x = torch.randn(5, 128, generator=torch.Generator().manual_seed(0)).to(torch.bfloat16)
    bias = torch.ones(96, dtype=torch.bfloat16)
    expected = torch.nn.functional.linear(kind.round_input(x), kind.decode(tensors), bias)
    actual = kind.build(tensors, bias).eval()(x)
    error = (actual.float() - expected.float()).norm() / expected.float().norm()
    assert error <= (0.004 if bits == 8 else 0.0)  # bitsandbytes adds INT8 products up in another order and dtype


@pytest.mark.parametrize(("bits", "double_quant"), KINDS)
def test_more_bits_lose_less(bits: int, double_quant: bool) -> None:
    wanted = weight(96, 128)
    kind = precisions(double_quant)[bits]
    error = (kind.decode(kind.encode(wanted)).float() - wanted.float()).norm() / wanted.float().norm()
    assert error <= {4: 0.11, 8: 0.01, 16: 0.0}[bits]
    assert bits == 16 or error > 0


@settings(deadline=None, max_examples=40)
@given(
    rows=st.integers(1, 40).map(lambda n: 8 * n),
    columns=st.integers(1, 40).map(lambda n: 8 * n),
    kind=st.sampled_from(KINDS),
)
def test_predicted_bytes_are_those_of_the_built_module(rows: int, columns: int, kind: tuple[int, bool]) -> None:
    bits, double_quant = kind
    precision = precisions(double_quant)[bits]
    module = precision.build(precision.encode(weight(rows, columns)), None)
    assert loaded_bytes(module) == precision.weight_bytes(rows, columns) + precision.constant_bytes(rows, columns)


def test_running_a_module_does_not_change_its_bytes_or_its_result() -> None:
    for bits, kind in precisions(True).items():
        module = kind.build(kind.encode(weight(64, 64)), None).eval()
        x = torch.ones(2, 64, dtype=torch.bfloat16)
        before = loaded_bytes(module)
        with torch.no_grad():
            first, second = module(x), module(x)
        assert torch.equal(first, second), bits
        assert loaded_bytes(module) == before, bits


def test_rounding_an_input_keeps_its_gradient() -> None:
    x = torch.randn(3, 64, generator=torch.Generator().manual_seed(0)).requires_grad_()
    rounded = precisions(True)[8].round_input(x)
    assert not torch.equal(rounded, x)
    assert (rounded - x).abs().max() <= x.abs().max() / 127
    rounded.sum().backward()
    assert torch.equal(x.grad, torch.ones(3, 64))


@pytest.mark.parametrize(
    ("kind", "name", "damage"),
    [
        ((8, True), "SCB", lambda tensor: tensor[:1]),
        ((8, True), "SCB", lambda tensor: tensor.unsqueeze(1)),
        ((8, True), "weight", lambda tensor: tensor.float()),
        ((4, False), "weight.absmax", lambda tensor: tensor[:1]),
        ((4, False), "weight.absmax", lambda tensor: tensor.to(torch.uint8)),
        ((4, True), "weight", lambda tensor: tensor[:-1]),
        ((4, True), "weight.absmax", lambda tensor: tensor[:1]),
        ((4, True), "weight.nested_absmax", lambda tensor: tensor[:0]),
        ((4, True), "weight.nested_quant_map", lambda tensor: tensor[:16]),
        ((4, True), "weight.quant_map", lambda tensor: tensor[:2]),
    ],
)
def test_constants_that_do_not_fit_the_weight_are_refused_before_they_are_read(
    kind: tuple[int, bool], name: str, damage: Callable[[torch.Tensor], torch.Tensor]
) -> None:
    bits, double_quant = kind
    precision = precisions(double_quant)[bits]
    tensors = precision.encode(weight(96, 128))
    damaged = tensors | {name: damage(tensors[name])}
    for read in (precision.decode, lambda tensors: precision.build(tensors, None)):
        read(tensors)
        with pytest.raises(ValueError, match=r"fit each other|each row"):
            read(damaged)

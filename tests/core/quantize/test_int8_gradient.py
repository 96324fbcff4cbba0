from __future__ import annotations

import weakref

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from qpruner_core.precisions.int8 import Int8
from qpruner_core.precisions.llm_int8 import LlmInt8

_ROWS, _COLUMNS = 5000, 64  # more rows than are made 16 bits at once


@pytest.fixture(params=[Int8, LlmInt8])
def kind(request: pytest.FixtureRequest) -> Int8:
    """Both ways to compute with int8 weights."""
    built: Int8 = request.param()
    return built


def int8_linear(kind: Int8, bias: torch.Tensor | None = None) -> tuple[nn.Module, torch.Tensor]:
    """A module of random weights, and the weights that it computes with."""
    tensors = kind.encode(torch.randn(_ROWS, _COLUMNS, generator=torch.Generator().manual_seed(0)))
    return kind.build(tensors, bias), tensors["weight"].float() * tensors["SCB"].unsqueeze(1) / 127


@pytest.mark.parametrize("shape", [(3, _COLUMNS), (2, 3, _COLUMNS)])
def test_the_gradient_of_inputs_is_that_of_the_weights_it_computes_with(kind: Int8, shape: tuple[int, ...]) -> None:
    linear, weight = int8_linear(kind)
    inputs = torch.randn(shape, generator=torch.Generator().manual_seed(1)).requires_grad_()
    gradient = torch.randn(*shape[:-1], _ROWS, generator=torch.Generator().manual_seed(2))

    linear.train()(inputs).backward(gradient)

    torch.testing.assert_close(inputs.grad, gradient @ weight, rtol=1e-3, atol=1e-3)


def test_the_output_is_the_same_with_a_gradient_and_without(kind: Int8) -> None:
    linear, _ = int8_linear(kind, bias=torch.ones(_ROWS, dtype=torch.bfloat16))
    inputs = torch.randn(3, _COLUMNS, dtype=torch.bfloat16)

    with torch.no_grad():
        expected = linear.eval()(inputs)

    assert torch.equal(linear.train()(inputs.requires_grad_()), expected)


def test_a_bias_that_is_trained_gets_its_gradient(kind: Int8) -> None:
    linear, _ = int8_linear(kind, bias=torch.zeros(_ROWS))
    assert isinstance(linear.bias, nn.Parameter)
    linear.bias.requires_grad_()

    linear(torch.randn(2, 3, _COLUMNS)).sum().backward()

    assert torch.equal(linear.bias.grad, torch.full((_ROWS,), 6.0))


def test_activation_checkpointing_frees_its_inputs(kind: Int8) -> None:
    linear, _ = int8_linear(kind)
    seen: list[weakref.ref[torch.Tensor]] = []

    def layer(hidden: torch.Tensor) -> torch.Tensor:
        hidden = hidden * 2
        seen.append(weakref.ref(hidden))
        output: torch.Tensor = linear(hidden)
        return output

    inputs = torch.randn(3, _COLUMNS, requires_grad=True)
    output = checkpoint(layer, inputs, use_reentrant=False)

    assert seen[0]() is None
    output.sum().backward()
    assert inputs.grad is not None

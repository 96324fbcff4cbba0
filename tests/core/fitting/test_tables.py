from __future__ import annotations

from typing import cast

import pytest
import torch

from qpruner_core.fitting import tables
from qpruner_core.fitting.tables import encode_table
from qpruner_core.forward.input_moments import InputMoments
from qpruner_core.precisions import Precision
from qpruner_core.precisions.ggml import GGML


@pytest.fixture
def table() -> torch.Tensor:
    return torch.randn(300, 256, generator=torch.Generator().manual_seed(0)).to(torch.bfloat16)


@pytest.fixture
def states() -> torch.Tensor:
    """Inputs of a head that go together, of different sizes."""
    generator = torch.Generator().manual_seed(1)
    shared = torch.randn(2000, 40, generator=generator) @ torch.randn(40, 256, generator=generator)
    return shared * torch.randn(256, generator=generator).exp() + torch.randn(2000, 256, generator=generator) / 2


def moments_of(states: torch.Tensor) -> InputMoments:
    return InputMoments(states.T @ states, len(states))


@pytest.mark.parametrize("name", ["q2_k", "iq3_s", "iq4_nl", "q4_k", "q5_0"])
def test_logits_are_nearer_than_those_of_a_table_rounded_to_the_nearest(
    name: str, table: torch.Tensor, states: torch.Tensor
) -> None:
    precision = cast(Precision, GGML[name])
    errors = [
        (states @ (table.float() - precision.decode(encode_table(table, precision, moments)).float()).T).norm()
        for moments in (moments_of(states), None)
    ]
    assert errors[0] < 0.85 * errors[1]


@pytest.mark.parametrize("name", ["iq4_nl", "q4_k", "q8_0", "bf16"])
def test_a_row_does_not_depend_on_those_that_are_rounded_with_it(
    name: str, table: torch.Tensor, states: torch.Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    precision, moments = cast(Precision, GGML[name]), moments_of(states)
    whole = encode_table(table, precision, moments)["weight"]
    monkeypatch.setattr(tables, "_AT_ONCE", 37 * 256)
    assert torch.equal(encode_table(table, precision, moments)["weight"], whole)


@pytest.mark.parametrize("name", ["iq4_nl", "q8_0"])
def test_a_table_that_nothing_multiplies_with_is_rounded_to_the_nearest(name: str, table: torch.Tensor) -> None:
    precision = cast(Precision, GGML[name])
    nearest = precision.encode(table)["weight"]
    assert torch.equal(encode_table(table, precision, None)["weight"], nearest)
    silent = encode_table(table, precision, InputMoments(torch.zeros(256, 256), 10))["weight"]
    assert torch.equal(silent, nearest)

from __future__ import annotations

import pytest
import torch

from qpruner_core.precisions import precisions
from qpruner_core.quantize.loftq import loftq

SETTINGS = {"rank": 8, "scaling": 2.0, "seed": 0}


@pytest.fixture
def weight() -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    low_rank = torch.randn(128, 12, generator=generator) @ torch.randn(12, 96, generator=generator)
    return (low_rank + torch.randn(128, 96, generator=generator)).to(torch.bfloat16)


def error(weight: torch.Tensor, bits: int, iterations: int) -> float:
    kind = precisions(True)[bits]
    tensors, a, b = loftq(weight, kind, iterations=iterations, **SETTINGS)
    return (weight.float() - kind.decode(tensors).float() - SETTINGS["scaling"] * b @ a).norm().item()


@pytest.mark.parametrize("bits", [4, 8])
def test_the_adapter_takes_the_scaling_into_account_and_lowers_the_error(weight: torch.Tensor, bits: int) -> None:
    plain, once, thrice = (error(weight, bits, iterations) for iterations in (0, 1, 3))
    assert once < plain
    assert thrice <= once * 1.001


def test_one_iteration_is_the_best_correction_of_that_rank(weight: torch.Tensor) -> None:
    kind = precisions(True)[4]
    residual = weight.float() - kind.decode(kind.encode(weight)).float()
    best = torch.linalg.svdvals(residual)[8:].norm().item()
    assert error(weight, 4, 1) == pytest.approx(best, rel=0.01)


def test_sixteen_bits_start_with_an_adapter_that_does_nothing(weight: torch.Tensor) -> None:
    tensors, a, b = loftq(weight, precisions(True)[16], iterations=3, **SETTINGS)
    assert torch.equal(tensors["weight"], weight)
    assert not b.any()
    assert a.any()


def test_the_same_seed_gives_the_same_bytes_and_leaves_the_global_generator_alone(weight: torch.Tensor) -> None:
    torch.manual_seed(5)
    first = loftq(weight, precisions(True)[4], iterations=2, **SETTINGS)
    drawn = torch.rand(3)
    torch.manual_seed(5)
    second = loftq(weight, precisions(True)[4], iterations=2, **SETTINGS)
    assert torch.equal(first[1], second[1])
    assert torch.equal(first[2], second[2])
    assert torch.equal(drawn, torch.rand(3))


def test_a_rank_above_the_matrix_is_padded_with_nothing() -> None:
    small = torch.randn(4, 64, generator=torch.Generator().manual_seed(0)).to(torch.bfloat16)
    _, a, b = loftq(small, precisions(True)[4], iterations=1, **SETTINGS)
    assert a.shape == (8, 64)
    assert b.shape == (4, 8)
    assert not b[:, 4:].any()

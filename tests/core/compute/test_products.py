from __future__ import annotations

import threading

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode

from qpruner_core.compute import products
from qpruner_core.compute.products import products_in
from qpruner_core.errors import InvalidConfigError
from qpruner_core.models.families import family_names
from tests.core.small_models import small_model

_DOTS = ("mm", "mv", "dot", "bmm", "matmul", "attention", "conv", "linear")


def random(*shape: int) -> torch.Tensor:
    return torch.randn(shape).to(torch.bfloat16)


@given(rows=st.integers(5, 17), inner=st.integers(1, 40), columns=st.integers(1, 40), transposed=st.booleans())
@settings(max_examples=60, deadline=None)
def test_a_product_in_float32_is_the_exact_one_rounded_once_however_it_is_cut(
    rows: int, inner: int, columns: int, transposed: bool
) -> None:
    a = random(rows, inner)
    b = random(columns, inner).T if transposed else random(inner, columns)
    exact = (a.double() @ b.double()).float()
    for piece in (products.PIECE, 24):
        with pytest.MonkeyPatch.context() as patch, products_in(torch.float32):
            patch.setattr(products, "PIECE", piece)
            result = a @ b
        assert result.dtype == torch.bfloat16
        # half a unit in the last place of bfloat16, and what float32 sums may lose where terms cancel
        assert ((result.float() - exact).abs() <= exact.abs() * 2**-8 + 1e-4).all()


def test_every_kind_of_product_takes_float32_operands_and_gives_bfloat16(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(products, "PIECE", 24)
    a, b, bias = random(3, 7, 5), random(3, 5, 6), random(3, 7, 6)
    with products_in(torch.float32):
        for result, exact in (
            (torch.bmm(a, b), a.double() @ b.double()),
            (torch.baddbmm(bias, a, b, beta=2, alpha=3), 2 * bias.double() + 3 * (a.double() @ b.double())),
            (torch.addmm(bias[0], a[0], b[0]), bias[0].double() + a[0].double() @ b[0].double()),
            (functional.linear(a, b[0].T, bias[0, 0]), a.double() @ b[0].double() + bias[0, 0].double()),
        ):
            assert result.dtype == torch.bfloat16
            torch.testing.assert_close(result.double(), exact, rtol=2**-8, atol=1e-3)


def test_the_gradients_of_attention_are_computed_in_float32() -> None:
    query, key, value = (random(1, 2, 16, 8).requires_grad_() for _ in range(3))
    exact = [tensor.detach().double().requires_grad_() for tensor in (query, key, value)]
    functional.scaled_dot_product_attention(*exact, is_causal=True).sum().backward()
    with products_in(torch.float32):
        functional.scaled_dot_product_attention(query, key, value, is_causal=True).sum().backward()
    for ours, reference in zip((query, key, value), exact, strict=True):
        assert ours.grad is not None
        assert reference.grad is not None
        torch.testing.assert_close(ours.grad.double(), reference.grad, rtol=0.02, atol=0.02)


class _Bfloat16Products(TorchDispatchMode):
    """The products of bfloat16 tensors that reach torch, by name."""

    def __init__(self) -> None:
        super().__init__()
        self.names: set[str] = set()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        name = function.overloadpacket.__name__
        half = any(isinstance(value, torch.Tensor) and value.dtype == torch.bfloat16 for value in args)
        if half and any(part in name for part in _DOTS):
            self.names.add(name)
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize("family", family_names())
def test_no_family_multiplies_in_a_way_that_is_not_replaced(family: str) -> None:
    model = small_model(family).to(torch.bfloat16).train()
    ids = torch.arange(12).view(1, -1) % 50
    with _Bfloat16Products() as seen:
        model(ids, labels=ids).loss.backward()
    # the forward pass of attention is as fast in bfloat16
    assert seen.names <= {*products._REPLACEMENTS, "_scaled_dot_product_flash_attention_for_cpu"}


def test_nothing_is_replaced_outside_and_by_bfloat16() -> None:
    a, b = random(64, 96), random(96, 32)
    before = a @ b
    with products_in(torch.bfloat16):
        assert torch.equal(a @ b, before)
    with products_in(torch.float32):
        pass
    assert torch.equal(a @ b, before)


def test_blocks_may_overlap_and_must_agree() -> None:
    a, b = random(8, 64), random(64, 8)
    with products_in(torch.float32):
        inside = a @ b
        with products_in(torch.float32):
            pass
        assert torch.equal(a @ b, inside)
        with pytest.raises(InvalidConfigError, match="products in float32") as refused, products_in(torch.bfloat16):
            pass
        assert refused.value.field == "compute_dtype"
        assert refused.value.remedy


def test_a_thread_of_its_own_multiplies_the_same_way() -> None:
    a, b = random(8, 640), random(640, 8)
    results: list[torch.Tensor] = []
    with products_in(torch.float32):
        thread = threading.Thread(target=lambda: results.append(a @ b))
        thread.start()
        thread.join()
        assert torch.equal(results[0], a @ b)


def test_float32_tensors_are_multiplied_as_ever() -> None:
    a, b = torch.randn(16, 32), torch.randn(32, 8)
    before = a @ b
    with products_in(torch.float32):
        assert torch.equal(a @ b, before)

from __future__ import annotations

import gguf
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from qpruner_core.precisions.ggml import GGML, BlockFormat, GgmlPrecision, ScalarFormat
from tests.core.precisions.ggml.weights import BLOCKS, SCALARS, unpacked, weights

every = pytest.mark.parametrize("precision", list(GGML.values()), ids=list(GGML))
blocks = pytest.mark.parametrize("precision", BLOCKS, ids=lambda precision: precision.name)
scalars = pytest.mark.parametrize("precision", SCALARS, ids=lambda precision: precision.name)


def random_bytes(precision: BlockFormat, rows: int, count: int, seed: int) -> dict[str, torch.Tensor]:
    """Blocks of random bytes; floats of theirs that are not finite are made so."""
    generator = torch.Generator().manual_seed(seed)
    packed = torch.randint(0, 256, (rows, count * precision.block_bytes), generator=generator).to(torch.uint8)
    found = precision.scales({"weight": packed})
    return precision.with_scales({"weight": packed}, {name: each.nan_to_num() for name, each in found.items()})


def test_precisions_come_in_the_order_of_their_bits_and_under_their_names() -> None:
    bits = [precision.bits_per_weight for precision in GGML.values()]
    assert bits == sorted(bits)
    assert all(name == precision.name == precision.type.name.lower() for name, precision in GGML.items())
    assert [GGML[name].bits_per_weight for name in ("q2_k", "q4_k", "q8_0")] == [2.625, 4.5, 8.5]
    assert [name for name, precision in GGML.items() if precision.lossless] == ["f16", "bf16"]


@every
@settings(max_examples=25, deadline=None)
@given(rows=st.integers(1, 5), count=st.integers(1, 4))
def test_bytes_are_those_of_the_format(precision: GgmlPrecision, rows: int, count: int) -> None:
    block, size = gguf.GGML_QUANT_SIZES[precision.type]
    columns = count * block
    expected = rows * count * size
    assert precision.weight_bytes(rows, columns) + precision.constant_bytes(rows, columns) == expected
    assert precision.bits_per_weight == 8 * size / block
    stored = precision.encode(weights(rows, columns))["weight"]
    assert stored.numel() * stored.element_size() == expected


@blocks
def test_rows_of_parts_of_blocks_are_not_accepted(precision: BlockFormat) -> None:
    assert precision.accepts(3, 2 * precision.block)
    assert not precision.accepts(3, precision.block + precision.block // 2)
    with pytest.raises(ValueError, match=f"{precision.name} needs rows of a multiple of {precision.block}"):
        precision.encode(weights(3, precision.block + 16))


@blocks
@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_any_bytes_are_unpacked_as_gguf_unpacks_them(precision: BlockFormat, seed: int) -> None:
    tensors = random_bytes(precision, 3, 2, seed)
    expected = unpacked(precision, tensors)
    assert torch.equal(precision.values(tensors), expected)
    assert torch.equal(precision.decode(tensors), expected.to(torch.bfloat16))


@every
def test_what_is_packed_is_unpacked_as_gguf_unpacks_it(precision: GgmlPrecision) -> None:
    tensors = precision.encode(weights(7, 512))
    if precision.name == "bf16":
        assert torch.equal(precision.values(tensors), weights(7, 512).float())
    else:
        assert torch.equal(precision.values(tensors), unpacked(precision, tensors))


@scalars
@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_codes_become_the_levels_of_their_grid_and_leave_the_constants_alone(
    precision: ScalarFormat, seed: int
) -> None:
    tensors = random_bytes(precision, 2, 1, seed)
    grid = precision.grid(tensors)
    assert grid is not None
    assert torch.equal(grid.levels, grid.levels.sort().values)
    for code in range(len(grid.levels)):
        stored = precision.with_codes(tensors, torch.full((2, precision.block), code))
        assert torch.equal(precision.values(stored), grid.placed(grid.levels[code].expand(2, precision.block)))
    codes = torch.randint(0, len(grid.levels), (2, precision.block), generator=torch.Generator().manual_seed(seed))
    stored = precision.with_codes(tensors, codes)
    assert torch.equal(precision.values(stored), grid.placed(grid.levels[codes]))
    again = precision.grid(stored)
    assert again is not None
    assert torch.equal(again.scale, grid.scale)
    assert torch.equal(again.placed(torch.zeros_like(again.scale)), grid.placed(torch.zeros_like(grid.scale)))


@scalars
def test_the_nearest_levels_of_the_constants_are_what_is_stored(precision: ScalarFormat) -> None:
    weight = weights(9, 512)
    constants = precision.constants(weight)
    grid = precision.grid(constants)
    assert grid is not None
    rounded = grid.rounded(weight.float())
    torch.testing.assert_close(rounded, precision.values(precision.encode(weight)), rtol=0, atol=0)
    distances = [(grid.placed(level.expand(9, 512)) - weight.float()).abs() for level in grid.levels]
    nearest = torch.stack(distances).amin(dim=0)
    torch.testing.assert_close((rounded - weight.float()).abs(), nearest, rtol=1e-4, atol=1e-6)


@blocks
@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_the_scales_make_the_values(precision: BlockFormat, seed: int) -> None:
    tensors = random_bytes(precision, 3, 2, seed)
    scales = precision.scales(tensors)
    assert all(scale.shape == (3, 2) for scale in scales.values())
    assert torch.equal(precision.values_with(tensors, scales), precision.values(tensors))
    assert torch.equal(precision.with_scales(tensors, scales)["weight"], tensors["weight"])


@blocks
def test_gradients_reach_the_scales_and_a_step_along_them_is_stored(precision: BlockFormat) -> None:
    weight = weights(8, 512)
    tensors = precision.encode(weight * 0.9)
    scales = {name: scale.requires_grad_() for name, scale in precision.scales(tensors).items()}
    loss = (precision.values_with(tensors, scales) - weight.float()).square().sum()
    loss.backward()
    gradients = {name: scale.grad for name, scale in scales.items() if scale.grad is not None}
    assert gradients.keys() == scales.keys()
    # Values are linear in the scales, so that the best step along the gradients is known
    length = sum(gradient.square().sum() for gradient in gradients.values())
    step = length / (2 * precision.values_with(tensors, gradients).square().sum())
    moved = {name: scale.detach() - step * gradients[name] for name, scale in scales.items()}
    stored = precision.with_scales(tensors, moved)
    after = (precision.values(stored) - weight.float()).square().sum()
    assert after < loss
    kept = precision.scales(stored)
    assert all(torch.equal(kept[name], scale.to(torch.float16).float()) for name, scale in moved.items())


@blocks
def test_what_is_not_of_the_format_is_refused(precision: BlockFormat) -> None:
    for packed in (torch.zeros(2, precision.block_bytes + 1, dtype=torch.uint8), torch.zeros(2, precision.block_bytes)):
        with pytest.raises(ValueError, match=f"{precision.name} is stored as"):
            precision.decode({"weight": packed})


@every
def test_a_module_multiplies_with_the_decoded_weight(precision: GgmlPrecision) -> None:
    tensors, bias = precision.encode(weights(8, 256)), torch.ones(8, dtype=torch.bfloat16)
    inputs = weights(3, 256, seed=5)
    module = precision.build(tensors, bias)
    assert torch.equal(module(inputs), torch.nn.functional.linear(inputs, precision.decode(tensors), bias))


def test_float16_holds_what_it_can_exactly_and_the_rest_without_infinity() -> None:
    f16, bf16 = GGML["f16"], GGML["bf16"]
    inside = weights(4, 64).clamp(-1, 1)
    inside = torch.where(inside.abs() < 2**-14, 0, inside)
    outside = torch.tensor([[1e38, -1e38, 70000.0, 1e-30]], dtype=torch.bfloat16)
    assert f16.exact(inside)  # type: ignore[union-attr]
    assert not f16.exact(outside)  # type: ignore[union-attr]
    assert f16.values(f16.encode(outside)).tolist() == [[65504, -65504, 65504, 0]]
    assert f16.decode(f16.encode(outside)).isfinite().all()
    assert torch.equal(bf16.decode(bf16.encode(outside)), outside)

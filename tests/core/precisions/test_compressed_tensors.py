"""The precisions of compressed-tensors: laws of packing, bytes, grids and scales, and what the library decompresses."""

from __future__ import annotations

import pytest
import torch
from compressed_tensors.compressors import BaseCompressor
from compressed_tensors.compressors.pack_quantized.helpers import pack_to_int32, unpack_from_int32
from compressed_tensors.quantization import QuantizationScheme
from hypothesis import given, settings
from hypothesis import strategies as st

from qpruner_core.fitting.error_feedback import encode_with_feedback
from qpruner_core.forward.input_moments import InputMoments
from qpruner_core.precisions import Tensors
from qpruner_core.precisions.compressed_tensors import QUANTIZED, PackedInt, Quantized
from qpruner_core.precisions.compressed_tensors.packing import pack, unpack

every_kind = pytest.mark.parametrize("kind", QUANTIZED.values(), ids=QUANTIZED.keys())
kinds = st.sampled_from(list(QUANTIZED.values()))
DENSE = torch.equal(  # what the library packs where 32 is no multiple of the bits; not so in 0.17
    pack_to_int32(torch.ones(1, 32, dtype=torch.int8), 3), pack(torch.full((1, 32), 5), 3)
)


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def same(first: Tensors, second: Tensors) -> bool:
    return first.keys() == second.keys() and all(
        torch.equal(first[name].view(torch.uint8), second[name].view(torch.uint8)) for name in first
    )


@given(bits=st.integers(2, 8), rows=st.integers(1, 5), columns=st.integers(1, 100), seed=st.integers(0, 2**16))
def test_packed_numbers_are_the_librarys_and_unpack_to_what_they_were(
    bits: int, rows: int, columns: int, seed: int
) -> None:
    numbers = torch.randint(0, 2**bits, (rows, columns), generator=torch.Generator().manual_seed(seed))
    packed = pack(numbers, bits)
    assert torch.equal(unpack(packed, bits, columns).long(), numbers)
    if DENSE or bits in (2, 4, 8):
        signed = (numbers - 2 ** (bits - 1)).to(torch.int8)
        assert torch.equal(packed, pack_to_int32(signed, bits))
        assert torch.equal(unpack_from_int32(packed, bits, torch.Size([rows, columns])), signed)


@settings(deadline=None, max_examples=30)
@given(kind=kinds, rows=st.integers(1, 8), columns=st.integers(1, 12), weighted=st.booleans())
def test_predicted_bytes_are_those_of_the_tensors_and_the_library_decompresses_to_what_we_decode(
    kind: Quantized, rows: int, columns: int, weighted: bool
) -> None:
    shape = 32 * rows, 32 * columns
    weight, importance = random(*shape).to(torch.bfloat16), random(shape[1], seed=1).square() if weighted else None
    if not kind.accepts(*shape):
        with pytest.raises(ValueError, match="does not support"):
            kind.encode(weight, importance)
        return
    tensors = kind.encode(weight, importance)
    assert sum(tensor.nbytes for tensor in tensors.values()) == kind.weight_bytes(*shape) + kind.constant_bytes(*shape)
    if DENSE or kind.bits in (2, 4, 8):
        compressor = BaseCompressor.get_value_from_registry(kind.format)
        scheme = QuantizationScheme(targets=["Linear"], **kind.scheme())
        assert torch.equal(compressor.decompress(dict(tensors), scheme)["weight"], kind.decode(tensors))


@every_kind
def test_constants_and_the_nearest_levels_are_what_encoding_stores(kind: Quantized) -> None:
    weight = random(64, 256).to(torch.bfloat16)
    tensors, constants = kind.encode(weight), kind.constants(weight)
    grid = kind.grid(constants)
    assert grid is not None
    numbers = grid.nearest((weight.float() / grid.scale).flatten())
    assert same(kind.with_codes(constants, numbers.view(weight.shape)), tensors)
    assert torch.equal(grid.at(numbers), grid.levels[numbers.long()])
    values = torch.cat([grid.levels, 1.2 * grid.levels.abs().max() * (2 * torch.rand(500) - 1)])
    best = (values.unsqueeze(1) - grid.levels).abs()
    chosen = best.gather(1, grid.nearest(values).long().unsqueeze(1)).squeeze(1)
    assert torch.equal(chosen, best.amin(dim=1))


@every_kind
def test_scales_can_be_taken_out_trained_and_put_back(kind: Quantized) -> None:
    tensors = kind.encode(random(64, 256).to(torch.bfloat16))
    scales = {name: scale.requires_grad_() for name, scale in kind.scales(tensors).items()}
    values = kind.values_with(tensors, scales)
    assert torch.equal(values, kind.values(tensors))
    assert torch.equal(values.to(torch.bfloat16), kind.decode(tensors))
    values.sum().backward()
    gradients = [scale.grad for scale in scales.values()]
    assert all(gradient is not None and gradient.abs().sum() > 0 for gradient in gradients)
    assert same(kind.with_scales(tensors, scales), tensors)
    doubled = kind.with_scales(tensors, {name: 2 * scale for name, scale in scales.items()})
    assert torch.equal(kind.values(doubled), 2 * kind.values(tensors))


@every_kind
def test_the_module_multiplies_the_rounded_input_with_the_decoded_weight(kind: Quantized) -> None:
    tensors = kind.encode(random(64, 256).to(torch.bfloat16))
    inputs, bias = random(5, 256, seed=1).to(torch.bfloat16), torch.ones(64, dtype=torch.bfloat16)
    expected = torch.nn.functional.linear(kind.round_input(inputs), kind.decode(tensors), bias)
    assert torch.equal(kind.build(tensors, bias)(inputs), expected)


@pytest.mark.parametrize("name", ["int8_w8a8", "fp8"])
def test_inputs_are_rounded_a_little_and_keep_their_gradient(name: str) -> None:
    inputs = random(3, 64).requires_grad_()
    rounded = QUANTIZED[name].round_input(inputs)
    assert 0 < (rounded - inputs).abs().max() <= inputs.abs().max() / (16 if name == "fp8" else 127)
    rounded.sum().backward()
    assert inputs.grad is not None
    assert torch.equal(inputs.grad, torch.ones(3, 64))


@pytest.mark.parametrize("bits", range(2, 9))
def test_searched_scales_lose_less_than_the_largest_weights_ask_for_and_importance_lowers_its_own_error(
    bits: int,
) -> None:
    kind = PackedInt(bits, 64)
    weight, importance = random(64, 256).to(torch.bfloat16), (3 * random(256, seed=1)).exp()

    def error(tensors: Tensors, counted: torch.Tensor) -> float:
        return float(((kind.values(tensors) - weight.float()).square() * counted).sum())

    found, alike = kind.encode(weight, importance), kind.encode(weight)
    largest = weight.float().view(64, -1, 64).abs().amax(dim=2) / (2 ** (bits - 1) - 1)
    constants = kind.with_scales(kind.constants(weight), {"weight_scale": largest})
    grid = kind.grid(constants)
    assert grid is not None
    plain = kind.with_codes(constants, grid.nearest((weight.float() / grid.scale).flatten()).view(weight.shape))
    assert error(alike, torch.ones(256)) < error(plain, torch.ones(256))
    assert error(found, importance) < error(alike, importance)


@every_kind
def test_weights_and_inputs_of_zero_are_borne(kind: Quantized) -> None:
    weight = random(64, 256).to(torch.bfloat16)
    weight[:, :128] = 0
    weight[0] = 0
    for importance in (None, torch.zeros(256), torch.cat([torch.zeros(128), torch.ones(128)])):
        decoded = kind.decode(kind.encode(weight, importance))
        assert decoded.isfinite().all()
        assert not decoded[:, :128].any()


@pytest.mark.parametrize("name", ["int4_g32", "int4_g128", "int2_g64", "int3_g64", "int8_channel", "int8_w8a8", "fp8"])
def test_feedback_leaves_less_error_in_the_output_in_the_same_bytes(name: str) -> None:
    kind, weight = QUANTIZED[name], random(64, 128).to(torch.bfloat16)
    inputs = random(2000, 12, seed=1) @ random(12, 128, seed=2) + random(2000, 128, seed=4) / 5
    fed = encode_with_feedback([(weight, kind)], InputMoments(inputs.T @ inputs, len(inputs)))[0]
    plain = kind.encode(weight)
    errors = [(inputs @ (weight.float() - kind.values(tensors)).T).norm() for tensors in (fed, plain)]
    assert errors[0] < 0.8 * errors[1]
    assert {key: (value.shape, value.dtype) for key, value in fed.items()} == {
        key: (value.shape, value.dtype) for key, value in plain.items()
    }


@pytest.mark.parametrize(
    ("name", "tensor", "damage"),
    [
        ("int4_g64", "weight_packed", lambda tensor: tensor[:, :-1]),
        ("int4_g64", "weight_packed", lambda tensor: tensor.long()),
        ("int4_g64", "weight_scale", lambda tensor: tensor[:, :-1]),
        ("int4_g64", "weight_shape", lambda tensor: tensor[:1]),
        ("int4_g64", "weight_shape", lambda tensor: tensor + 1),
        ("int8_w8a8", "weight", lambda tensor: tensor.float()),
        ("int8_w8a8", "weight_scale", lambda tensor: tensor[:1]),
        ("fp8", "weight", lambda tensor: tensor.view(torch.int8)),
    ],
)
def test_tensors_that_do_not_fit_each_other_are_refused(name: str, tensor: str, damage: object) -> None:
    kind = QUANTIZED[name]
    tensors = kind.encode(random(64, 128).to(torch.bfloat16))
    with pytest.raises(ValueError, match=r"match|number"):
        kind.decode(tensors | {tensor: damage(tensors[tensor])})  # type: ignore[operator]


def test_more_bits_lose_less() -> None:
    weight = random(64, 256).to(torch.bfloat16)
    names = ["int2_g64", "int3_g64", "int4_g128", "int4_g32", "int5_g64", "fp8", "int6_g64", "int7_g64", "int8_channel"]
    errors = [(QUANTIZED[name].values(QUANTIZED[name].encode(weight)) - weight.float()).norm() for name in names]
    assert errors == sorted(errors, reverse=True)

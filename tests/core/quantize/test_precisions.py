from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from qpruner_core.measure.memory import loaded_bytes
from qpruner_core.precision_names import BITS_PER_WEIGHT
from qpruner_core.precisions import Precision, precisions
from qpruner_core.precisions.bf16 import Bf16
from qpruner_core.precisions.int8 import Int8
from qpruner_core.precisions.llm_int8 import LlmInt8
from qpruner_core.precisions.nf4 import Nf4
from qpruner_core.quantize.config import Int8Kind, QuantizeConfig

KINDS: dict[str, Precision] = {
    "NF4": Nf4(double_quant=True),
    "NF4, constants in float32": Nf4(double_quant=False),
    "INT8": Int8(),
    "LLM.int8()": LlmInt8(),
    "BF16": Bf16(),
}
every_kind = pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS.keys())


def weight(rows: int, columns: int) -> torch.Tensor:
    return torch.randn(rows, columns, generator=torch.Generator().manual_seed(rows * columns)).to(torch.bfloat16)


@every_kind
def test_the_module_multiplies_the_rounded_input_with_the_decoded_weight(kind: Precision) -> None:
    tensors = kind.encode(weight(96, 128))
    x = torch.randn(5, 128, generator=torch.Generator().manual_seed(0)).to(torch.bfloat16)
    bias = torch.ones(96, dtype=torch.bfloat16)
    expected = torch.nn.functional.linear(kind.round_input(x), kind.decode(tensors), bias)
    actual = kind.build(tensors, bias).eval()(x)
    error = (actual.float() - expected.float()).norm() / expected.float().norm()
    # In INT8, rows are scaled after they were multiplied, not before
    assert error <= (0.004 if kind.name == "int8" else 0.0)


@every_kind
@pytest.mark.parametrize("shape", [(96, 128), (7, 33)])
def test_constants_are_those_of_the_encoded_weight(kind: Precision, shape: tuple[int, int]) -> None:
    encoded = kind.encode(weight(*shape))
    constants = kind.constants(weight(*shape))
    assert encoded.keys() == constants.keys() | {"weight"}
    assert all(torch.equal(constants[name], encoded[name]) for name in constants)


@every_kind
def test_more_bits_lose_less(kind: Precision) -> None:
    wanted = weight(96, 128)
    error = (kind.decode(kind.encode(wanted)).float() - wanted.float()).norm() / wanted.float().norm()
    assert error <= {"nf4": 0.11, "int8": 0.01, "bf16": 0.0}[kind.name]
    assert kind.lossless == (error == 0)


@settings(deadline=None, max_examples=40)
@given(
    rows=st.integers(1, 40).map(lambda n: 8 * n),
    columns=st.integers(1, 40).map(lambda n: 8 * n),
    kind=st.sampled_from(list(KINDS.values())),
)
def test_predicted_bytes_are_those_of_the_built_module(rows: int, columns: int, kind: Precision) -> None:
    module = kind.build(kind.encode(weight(rows, columns)), None)
    assert loaded_bytes(module) == kind.weight_bytes(rows, columns) + kind.constant_bytes(rows, columns)


@every_kind
def test_running_a_module_does_not_change_its_bytes_or_its_result(kind: Precision) -> None:
    module = kind.build(kind.encode(weight(64, 64)), None).eval()
    x = torch.ones(2, 64, dtype=torch.bfloat16)
    before = loaded_bytes(module)
    with torch.no_grad():
        first, second = module(x), module(x)
    assert torch.equal(first, second)
    assert loaded_bytes(module) == before


def test_rounding_an_input_keeps_its_gradient() -> None:
    x = torch.randn(3, 64, generator=torch.Generator().manual_seed(0)).requires_grad_()
    rounded = LlmInt8().round_input(x)
    assert not torch.equal(rounded, x)
    assert (rounded - x).abs().max() <= x.abs().max() / 127
    rounded.sum().backward()
    assert torch.equal(x.grad, torch.ones(3, 64))


@pytest.mark.parametrize(
    ("kind", "name", "damage"),
    [
        ("INT8", "SCB", lambda tensor: tensor[:1]),
        ("INT8", "SCB", lambda tensor: tensor.unsqueeze(1)),
        ("INT8", "weight", lambda tensor: tensor.float()),
        ("NF4, constants in float32", "weight.absmax", lambda tensor: tensor[:1]),
        ("NF4, constants in float32", "weight.absmax", lambda tensor: tensor.to(torch.uint8)),
        ("NF4", "weight", lambda tensor: tensor[:-1]),
        ("NF4", "weight.absmax", lambda tensor: tensor[:1]),
        ("NF4", "weight.nested_absmax", lambda tensor: tensor[:0]),
        ("NF4", "weight.nested_quant_map", lambda tensor: tensor[:16]),
        ("NF4", "weight.quant_map", lambda tensor: tensor[:2]),
    ],
)
def test_constants_that_do_not_fit_the_weight_are_refused_before_they_are_read(
    kind: str, name: str, damage: Callable[[torch.Tensor], torch.Tensor]
) -> None:
    precision = KINDS[kind]
    tensors = precision.encode(weight(96, 128))
    damaged = tensors | {name: damage(tensors[name])}
    for read in (precision.decode, lambda tensors: precision.build(tensors, None)):
        read(tensors)
        with pytest.raises(ValueError, match=r"match each other|each row"):
            read(damaged)


def test_the_precisions_that_settings_may_name_are_those_that_there_are() -> None:
    assert set(precisions(QuantizeConfig())) == set(BITS_PER_WEIGHT)


@pytest.mark.parametrize(("int8", "kind"), [("weight_only", Int8), ("llm_int8", LlmInt8)])
def test_int8_is_what_the_settings_say(int8: Int8Kind, kind: type[Precision]) -> None:
    assert type(precisions(QuantizeConfig(int8=int8))["int8"]) is kind


def test_8_bits_without_rounded_inputs_are_the_more_exact_where_one_input_is_large() -> None:
    wanted = weight(96, 128)
    x = torch.randn(5, 128, generator=torch.Generator().manual_seed(0)).to(torch.bfloat16)
    x[:, 7] *= 100
    expected = x.float() @ wanted.float().T
    errors = [
        (kind.build(kind.encode(wanted), None).eval()(x).float() - expected).norm().item()
        for kind in (Int8(), LlmInt8())
    ]
    assert errors[0] < errors[1] / 2

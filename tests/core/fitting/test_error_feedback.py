from __future__ import annotations

import pytest
import torch

from qpruner_core.fitting import error_feedback
from qpruner_core.fitting.error_feedback import encode_with_feedback
from qpruner_core.forward.input_moments import InputMoments
from qpruner_core.precisions import Precision, Tensors, precisions
from qpruner_core.quantize.config import QuantizeConfig

KINDS = [("nf4", True), ("nf4", False), ("int8", True)]


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def moments_of(inputs: torch.Tensor) -> InputMoments:
    return InputMoments(inputs.T @ inputs, len(inputs))


def feed(weight: torch.Tensor, kind: Precision, moments: InputMoments) -> Tensors:
    return encode_with_feedback([(weight, kind)], moments)[0]


@pytest.fixture
def weight() -> torch.Tensor:
    return random(96, 72).to(torch.bfloat16)


@pytest.fixture
def inputs() -> torch.Tensor:
    """Features that go together, of very different sizes."""
    return random(2000, 12, seed=1) @ random(12, 72, seed=2) * random(72, seed=3).exp() + random(2000, 72, seed=4) / 5


@pytest.mark.parametrize(("precision", "double_quant"), KINDS)
def test_the_nearest_levels_as_codes_are_what_plain_rounding_stores(
    weight: torch.Tensor, precision: str, double_quant: bool
) -> None:
    kind = precisions(QuantizeConfig(double_quant=double_quant))[precision]
    tensors = kind.encode(weight)
    grid = kind.grid(tensors)
    assert grid is not None
    values = kind.decode(tensors).float()
    codes = ((values / grid.scale).unsqueeze(2) - grid.levels).abs().argmin(dim=2)
    stored = kind.with_codes(tensors, codes)
    assert stored.keys() == tensors.keys()
    assert all(torch.equal(stored[name], tensors[name]) for name in tensors)


@pytest.mark.parametrize(("precision", "double_quant"), KINDS)
def test_feedback_leaves_less_error_in_the_output_in_the_same_bytes(
    weight: torch.Tensor, inputs: torch.Tensor, precision: str, double_quant: bool
) -> None:
    kind = precisions(QuantizeConfig(double_quant=double_quant))[precision]
    plain = kind.encode(weight)
    fed = feed(weight, kind, moments_of(inputs))
    errors = [(inputs @ (weight.float() - kind.decode(tensors).float()).T).norm() for tensors in (fed, plain)]
    assert errors[0] < 0.7 * errors[1]
    assert {name: (value.shape, value.dtype) for name, value in fed.items()} == {
        name: (value.shape, value.dtype) for name, value in plain.items()
    }


@pytest.mark.parametrize("precision", ["nf4", "int8"])
def test_where_no_inputs_go_together_weights_are_rounded_to_the_nearest(weight: torch.Tensor, precision: str) -> None:
    kind = precisions(QuantizeConfig())[precision]
    nearest = kind.decode(kind.encode(weight)).float()
    for moments in (torch.eye(72), torch.diag(torch.rand(72) + 0.1), torch.zeros(72, 72)):
        fed = kind.decode(feed(weight, kind, InputMoments(moments, 72))).float()
        same = (fed == nearest).float().mean()
        assert same > 0.99  # where two levels are as near, either may be taken


@pytest.mark.parametrize("precision", ["nf4", "int8"])
def test_the_more_damping_the_nearer_is_the_result_to_the_nearest_levels(
    weight: torch.Tensor, inputs: torch.Tensor, precision: str
) -> None:
    kind = precisions(QuantizeConfig())[precision]
    nearest = kind.decode(kind.encode(weight)).float()
    sums = inputs.T @ inputs
    distances = [
        (kind.decode(feed(weight, kind, InputMoments(sums, len(inputs), damping))).float() - nearest).norm()
        for damping in (0.01, 0.1, 1.0, 1e6)
    ]
    assert distances == sorted(distances, reverse=True)
    assert distances[-1] < 0.2 * distances[0]


def test_inputs_that_are_always_zero_or_always_alike_are_borne(weight: torch.Tensor, inputs: torch.Tensor) -> None:
    inputs[:, :30] = 0
    inputs[:, 40:50] = inputs[:, 50:60]
    kind = precisions(QuantizeConfig())["nf4"]
    decoded = kind.decode(feed(weight, kind, moments_of(inputs)))
    assert decoded.isfinite().all()


def test_sixteen_bits_are_left_alone(weight: torch.Tensor, inputs: torch.Tensor) -> None:
    tensors = feed(weight, precisions(QuantizeConfig())["bf16"], moments_of(inputs))
    assert torch.equal(tensors["weight"], weight)


@pytest.mark.parametrize(("seed", "outputs"), [(33, (8, 8, 24)), (0, (70, 190, 131))])
def test_widths_that_no_processor_likes_do_not_change_what_one_becomes(seed: int, outputs: tuple[int, ...]) -> None:
    generator = torch.Generator().manual_seed(seed)
    tokens = torch.randn(1000, 256, generator=generator) @ torch.randn(256, 256, generator=generator)
    kinds = precisions(QuantizeConfig())
    weights = [
        ((torch.randn(rows, 256, generator=generator) / 50).to(torch.bfloat16), kinds[precision])
        for rows in outputs
        for precision in ("nf4", "int8")
    ]
    moments = moments_of(tokens)
    for one, together in zip(weights, encode_with_feedback(weights, moments), strict=True):
        alone = feed(*one, moments)
        assert all(torch.equal(alone[name], together[name]) for name in alone)


@pytest.mark.parametrize("precision", ["nf4", "int8"])
def test_the_nearest_level_is_the_nearest(precision: str) -> None:
    kind = precisions(QuantizeConfig())[precision]
    grid = kind.grid(kind.encode(random(4, 64).to(torch.bfloat16)))
    assert grid is not None
    values = torch.cat([grid.levels, 1.2 * grid.levels.abs().max() * (2 * torch.rand(500) - 1)])
    errors = (values.unsqueeze(1) - grid.levels).abs()
    numbers = grid.nearest(values)
    torch.testing.assert_close(errors[range(len(values)), numbers.long()], errors.min(dim=1).values)
    assert torch.equal(grid.at(numbers), grid.levels[numbers.long()])


@pytest.mark.parametrize(("precision", "double_quant"), KINDS)
def test_a_weight_on_its_grid_is_as_near_as_one_that_is_stored(precision: str, double_quant: bool) -> None:
    kind = precisions(QuantizeConfig(double_quant=double_quant))[precision]
    weight = random(130, 100).to(torch.bfloat16)  # more values than are compared at once
    grid = kind.grid(kind.constants(weight))
    assert grid is not None
    stored = kind.decode(kind.encode(weight)).float()
    assert (weight.float() - grid.rounded(weight.float())).norm() <= 1.001 * (weight.float() - stored).norm()
    assert (grid.rounded(weight.float()).to(torch.bfloat16) == stored).float().mean() > 0.99


def test_weights_of_other_precisions_and_sizes_do_not_change_what_one_becomes(
    weight: torch.Tensor, inputs: torch.Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    kinds = precisions(QuantizeConfig())
    weights = [
        (weight, kinds["int8"]),
        (random(40, 72, seed=5).bfloat16(), kinds["nf4"]),
        (weight, kinds["bf16"]),
        (weight, kinds["nf4"]),
    ]
    moments = moments_of(inputs)
    alone = [feed(*one, moments) for one in weights]
    together = encode_with_feedback(weights, moments)
    monkeypatch.setattr(error_feedback, "_STACKED", 1)
    for found in (together, encode_with_feedback(weights, moments)):
        for own, other in zip(alone, found, strict=True):
            assert own.keys() == other.keys()
            assert all(torch.equal(own[name], other[name]) for name in own)


def test_several_threads_give_the_bytes_of_one(weight: torch.Tensor, inputs: torch.Tensor) -> None:
    kinds = precisions(QuantizeConfig())
    large = random(5000, 72, seed=6).bfloat16()  # more outputs than one thread rounds alone
    weights = [(each, kinds[name]) for each in (weight, large) for name in ("nf4", "int8", "bf16")]
    before = torch.get_num_threads()
    moments = moments_of(inputs)  # their sums are a product, which may depend on the threads
    found = []
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            found.append(encode_with_feedback(weights, InputMoments(moments.sums, moments.tokens)))
    finally:
        torch.set_num_threads(before)
    for one, two in zip(*found, strict=True):
        assert one.keys() == two.keys()
        assert all(torch.equal(one[name], two[name]) for name in one)


def test_moments_tell_the_scale_and_the_factors_of_their_inputs(inputs: torch.Tensor) -> None:
    moments = InputMoments(inputs.double().T @ inputs.double(), len(inputs), damping=0.01)
    torch.testing.assert_close(moments.scale, inputs.square().mean(dim=0).sqrt())
    damped = moments.sums + 0.01 * moments.sums.diagonal().mean() * torch.eye(72)
    ordered = damped[moments.order][:, moments.order]
    torch.testing.assert_close(moments.root @ moments.root.T, ordered.float(), rtol=1e-3, atol=1e-2)
    inverse = torch.linalg.inv(ordered).float()
    torch.testing.assert_close(moments.inverse_root.T @ moments.inverse_root, inverse, rtol=1e-3, atol=1e-5)
    assert torch.equal(moments.inverse_root, moments.inverse_root.triu())

from __future__ import annotations

from typing import Any

import pytest
import torch

from qpruner_core.fitting.fitted_linear import FittedLinear, UnfittedLinear, fit_linears, module_seed
from qpruner_core.forward.input_moments import InputMoments
from qpruner_core.precisions import precisions
from qpruner_core.quantize.config import QuantizeConfig

KINDS = precisions(QuantizeConfig())


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def weight() -> torch.Tensor:
    return (random(128, 12) @ random(12, 96, seed=1) + random(128, 96, seed=2)).to(torch.bfloat16)


@pytest.fixture
def inputs() -> torch.Tensor:
    """Tokens of independent features, a few of them much larger than the others."""
    return random(4096, 96, seed=3) * (2 * random(96, seed=4)).exp()


def scale_of(inputs: torch.Tensor) -> torch.Tensor:
    return inputs.square().mean(dim=0).sqrt()


def fit(weight: torch.Tensor, precision: str, scale: torch.Tensor | None = None, **settings: Any) -> FittedLinear:
    return fit_linears([UnfittedLinear(weight, KINDS[precision], 0)], QuantizeConfig(**settings), input_scale=scale)[0]


def weight_error(weight: torch.Tensor, precision: str, **settings: Any) -> float:
    fitted = fit(weight, precision, **settings)
    product = fitted.scaling * fitted.b @ fitted.a
    return (weight.float() - KINDS[precision].decode(fitted.tensors).float() - product).norm().item()


def output_error(weight: torch.Tensor, inputs: torch.Tensor, precision: str, **settings: Any) -> float:
    fitted = fit(weight, precision, scale_of(inputs), **settings)
    return (inputs @ (weight.float() - fitted.weight(KINDS[precision])).T).norm().item()


@pytest.mark.parametrize("precision", ["nf4", "int8"])
@pytest.mark.parametrize("alpha", [16.0, 3.0])
def test_the_adapter_takes_the_scaling_into_account_and_lowers_the_error(
    weight: torch.Tensor, precision: str, alpha: float
) -> None:
    plain, once, thrice = (
        weight_error(weight, precision, initialisation="loftq", loftq_iterations=iterations, lora_alpha=alpha)
        for iterations in (0, 1, 3)
    )
    assert once < plain
    assert thrice <= once * 1.001


def test_one_iteration_of_loftq_is_the_best_correction_of_that_rank(weight: torch.Tensor) -> None:
    residual = weight.float() - KINDS["nf4"].decode(KINDS["nf4"].encode(weight)).float()
    best = torch.linalg.svdvals(residual)[8:].norm().item()
    assert weight_error(weight, "nf4", initialisation="loftq", loftq_iterations=1) == pytest.approx(best, rel=0.01)


def test_one_iteration_of_qera_is_the_best_correction_of_the_output_of_that_rank(
    weight: torch.Tensor, inputs: torch.Tensor
) -> None:
    residual = weight.float() - KINDS["nf4"].decode(KINDS["nf4"].encode(weight)).float()
    best = torch.linalg.svdvals(residual * scale_of(inputs))[8:].norm().item()
    fitted = fit(weight, "nf4", scale_of(inputs), initialisation="qera", loftq_iterations=1)
    left = (residual - fitted.scaling * fitted.b @ fitted.a) * scale_of(inputs)
    assert left.norm().item() == pytest.approx(best, rel=0.01)


@pytest.mark.parametrize("precision", ["nf4", "int8"])
def test_qera_leaves_less_error_in_the_output_than_loftq_and_loftq_less_than_nothing(
    weight: torch.Tensor, inputs: torch.Tensor, precision: str
) -> None:
    errors = [output_error(weight, inputs, precision, initialisation=name) for name in ("qera", "loftq", "zero")]
    assert errors[0] < 0.8 * errors[1]
    assert errors[1] < errors[2]


def test_qera_bears_inputs_that_were_never_seen(weight: torch.Tensor) -> None:
    scale = torch.ones(96)
    scale[:50] = 0
    for each in (scale, torch.zeros(96)):
        fitted = fit(weight, "nf4", each, initialisation="qera")
        assert fitted.a.isfinite().all()
        assert fitted.b.isfinite().all()


@pytest.mark.parametrize(
    ("precision", "settings"), [("bf16", {}), ("nf4", {"loftq_iterations": 0}), ("int8", {"initialisation": "zero"})]
)
def test_where_nothing_is_to_be_made_up_for_the_adapter_does_nothing(
    weight: torch.Tensor, precision: str, settings: dict[str, Any]
) -> None:
    fitted = fit(weight, precision, torch.ones(96), **settings)
    assert not fitted.adapts
    assert fitted.a.any()
    assert torch.equal(
        fitted.weight(KINDS[precision]), KINDS[precision].decode(KINDS[precision].encode(weight)).float()
    )


def test_the_same_seed_gives_the_same_bytes_and_leaves_the_global_generator_alone(weight: torch.Tensor) -> None:
    torch.manual_seed(5)
    first = fit(weight, "nf4", initialisation="loftq")
    drawn = torch.rand(3)
    torch.manual_seed(5)
    second = fit(weight, "nf4", initialisation="loftq")
    assert torch.equal(first.a, second.a)
    assert torch.equal(first.b, second.b)
    assert torch.equal(drawn, torch.rand(3))


def test_modules_have_seeds_of_their_own() -> None:
    seeds = {module_seed(seed, name) for seed in range(20) for name in ("layers.1.up", "layers.11.up", "layers.1.down")}
    assert len(seeds) == 60


def test_a_rank_above_the_matrix_is_padded_with_nothing() -> None:
    fitted = fit(random(4, 64).to(torch.bfloat16), "nf4", initialisation="loftq", loftq_iterations=1)
    assert fitted.a.shape == (8, 64)
    assert fitted.b.shape == (4, 8)
    assert not fitted.b[:, 4:].any()


def test_a_rank_of_its_own_keeps_the_scaling(weight: torch.Tensor) -> None:
    settings = QuantizeConfig(initialisation="loftq")
    few, many = (fit_linears([UnfittedLinear(weight, KINDS["nf4"], 0)], settings, rank=rank)[0] for rank in (2, 24))
    assert few.scaling == many.scaling == 2.0
    assert few.a.shape == (2, 96)
    errors = [(weight.float() - fitted.weight(KINDS["nf4"])).norm() for fitted in (few, many)]
    assert errors[1] < errors[0]


def test_moments_of_the_inputs_leave_still_less_error_in_the_output(weight: torch.Tensor, inputs: torch.Tensor) -> None:
    tokens = inputs @ random(96, 96, seed=5)  # features that go together
    settings, scale = QuantizeConfig(initialisation="qera"), scale_of(tokens)
    errors = []
    for moments in (None, InputMoments(tokens.T @ tokens, len(tokens))):
        [fitted] = fit_linears([UnfittedLinear(weight, KINDS["nf4"], 0)], settings, input_scale=scale, moments=moments)
        errors.append((tokens @ (weight.float() - fitted.weight(KINDS["nf4"])).T).norm())
    assert errors[1] < 0.7 * errors[0]


@pytest.mark.parametrize("name", ["loftq", "qera"])
def test_an_adapter_lowers_the_error_of_codebooks_which_have_no_grid_of_single_weights(name: str) -> None:
    weight, tokens = random(64, 256).to(torch.bfloat16), random(1024, 256, seed=3)
    moments, scale = InputMoments(tokens.T @ tokens, len(tokens)), scale_of(tokens)
    errors = []
    for iterations in (0, 2):
        settings = QuantizeConfig.model_validate({"initialisation": name, "loftq_iterations": iterations})
        [fitted] = fit_linears(
            [UnfittedLinear(weight, KINDS["iq2_xs"], 0)], settings, input_scale=scale, moments=moments
        )
        errors.append((tokens @ (weight.float() - fitted.weight(KINDS["iq2_xs"])).T).norm())
    assert errors[1] < errors[0]

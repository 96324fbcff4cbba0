from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn

from qpruner_core.fitting.fitted_linear import UnfittedLinear, fit_linears, module_seed
from qpruner_core.forward.input_scales import input_scales
from qpruner_core.mixed.groups import linear_names
from qpruner_core.models.families import family_of, linear_weight
from qpruner_core.precisions import precisions
from qpruner_core.quantize.config import QuantizeConfig
from qpruner_core.quantize.output_error import output_errors
from tests.core.small_models import small_model

TEXT = torch.randint(0, 97, (4, 24), generator=torch.Generator().manual_seed(0))
FAMILIES = ("llama", "gpt2", "phi3", "gpt_neox", "qwen3_moe")
"""Separate, transposed and fused linear modules, and a layer without a dense MLP."""


def ignore(done: int, total: int) -> None: ...


def taking(seen: dict[str, list[torch.Tensor]], name: str) -> Callable[[nn.Module, tuple[torch.Tensor, ...]], None]:
    def take(module: nn.Module, args: tuple[torch.Tensor, ...]) -> None:
        seen.setdefault(name, []).append(args[0].flatten(0, -2))

    return take


@pytest.mark.parametrize("model_type", FAMILIES)
def test_scales_are_the_root_mean_squares_of_what_flows_into_every_linear_module(model_type: str) -> None:
    model = small_model(model_type)
    family = family_of(model)
    names = [name for layer in range(5) for name in linear_names(model, family, layer)]
    scales = input_scales(model, family, TEXT, ignore)
    seen: dict[str, list[torch.Tensor]] = {}
    for name in names:
        model.get_submodule(name).register_forward_pre_hook(taking(seen, name))
    with torch.no_grad():
        model(TEXT)
    assert list(scales) == names
    for name in names:
        expected = torch.cat(seen[name]).square().mean(dim=0).sqrt()
        assert torch.allclose(scales[name].double(), expected, rtol=1e-5), name


@pytest.mark.parametrize("model_type", FAMILIES)
@pytest.mark.parametrize("precision", ["nf4", "int8"])
def test_the_error_of_every_output_is_that_of_the_module_as_it_is_built_and_adapters_lower_it(
    model_type: str, precision: str
) -> None:
    model = small_model(model_type, dtype=torch.bfloat16)
    family = family_of(model)
    names = [name for layer in range(5) for name in linear_names(model, family, layer)]
    scales = input_scales(model, family, TEXT, ignore)
    kind = precisions(QuantizeConfig())[precision]
    fitted = {
        name: fit_linears(
            [UnfittedLinear(linear_weight(model.get_submodule(name)), kind, module_seed(0, name))],
            QuantizeConfig(initialisation="qera"),
            input_scale=scales[name],
        )[0]
        for name in names
    }
    errors = output_errors(model, fitted, dict.fromkeys(names, kind), TEXT, ignore)
    seen: dict[str, list[torch.Tensor]] = {}
    model.get_submodule(names[-1]).register_forward_pre_hook(taking(seen, names[-1]))
    with torch.no_grad():
        for row in TEXT:
            model(row.unsqueeze(0))
    inputs, weight = torch.cat(seen[names[-1]]), linear_weight(model.get_submodule(names[-1]))
    wanted = inputs.float() @ weight.float().T
    built = kind.build(kind.encode(weight), None).eval()(inputs).float()
    assert errors[names[-1]].before == pytest.approx(((built - wanted).norm() / wanted.norm()).item(), rel=0.05)
    assert sum(error.after for error in errors.values()) < sum(error.before for error in errors.values())
    assert all(error.after > 0 for error in errors.values())


def test_a_module_in_16_bits_has_no_error() -> None:
    model = small_model("llama", dtype=torch.bfloat16)
    name = "model.layers.2.mlp.down_proj"
    kind = precisions(QuantizeConfig())["bf16"]
    unfitted = UnfittedLinear(linear_weight(model.get_submodule(name)), kind, 0)
    fitted = {name: fit_linears([unfitted], QuantizeConfig())[0]}
    error = output_errors(model, fitted, {name: kind}, TEXT, ignore)[name]
    assert error.before == error.after == 0

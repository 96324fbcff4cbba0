from __future__ import annotations

from collections import Counter

import pytest
import torch

from qpruner_core.forward import input_moments as input_moments_module
from qpruner_core.forward.input_moments import input_moments
from qpruner_core.forward.passes import hooked
from qpruner_core.forward.second_moments import second_moments
from qpruner_core.models.families import family_names, family_of
from tests.core.small_models import small_model

IDS = torch.randint(0, 97, (3, 16), generator=torch.Generator().manual_seed(0))
ONE_MODULE, SOME_LAYERS = 1, 100_000  # bytes of moments at a time


def _ignore(done: int, total: int) -> None:
    pass


@pytest.mark.parametrize("name", family_names())
@pytest.mark.parametrize("allowance", [ONE_MODULE, SOME_LAYERS])
def test_every_layer_runs_at_most_once_for_each_part_in_it_and_moments_are_those_of_whole_passes(
    name: str, allowance: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(input_moments_module, "_LEAST_ALLOWANCE", allowance)
    monkeypatch.setattr(input_moments_module, "_SHARE_OF_WEIGHTS", 10**12)
    model = small_model(name, dtype=torch.bfloat16)
    family = family_of(model)
    layers = family.decoder_layers(model)
    modules = dict(model.named_modules())
    linears = [linear for layer in layers for linear in family.linears_of(layer)]
    names = [model_name for model_name, module in modules.items() if module in linears]
    whole = second_moments(model, linears, IDS, _ignore)
    ran: list[int] = []
    for index, layer in enumerate(layers):
        family.linears_of(layer)[0].register_forward_hook(lambda *_, index=index: ran.append(index))
    found = list(input_moments(model, family, names[::-1], IDS, _ignore))
    assert {model_name for together, _ in found for model_name in together} == set(names)
    for together, moments in found:
        for model_name in together:
            assert torch.equal(moments.sums, whole[modules[model_name]]), model_name
    times = Counter(ran)
    for index, layer in enumerate(layers):
        parts = len(family.linears_of(layer)) if allowance == ONE_MODULE else 2
        assert 1 <= times[index] / len(IDS) <= parts


@pytest.mark.parametrize("name", family_names())
@pytest.mark.parametrize("alone", [True, False])
def test_the_moments_of_the_module_with_the_heads_weights_are_those_of_what_the_head_multiplies(
    name: str, alone: bool
) -> None:
    model = small_model(name, dtype=torch.bfloat16)
    family = family_of(model)
    modules = {module: model_name for model_name, module in model.named_modules()}
    head = model.get_output_embeddings()
    holder = next(module for module in modules if getattr(module, "weight", None) is head.weight)
    sums = torch.zeros(head.weight.shape[1], head.weight.shape[1])
    with hooked([head.register_forward_pre_hook(lambda _, args: _add(sums, args[0]))]), torch.no_grad():
        for sequence in IDS:
            model(input_ids=sequence.unsqueeze(0), use_cache=False)
    linears = [] if alone else [modules[linear] for linear in family.linears_of(family.decoder_layers(model)[-1])]
    *_, (last, moments) = input_moments(model, family, [modules[holder], *linears], IDS, _ignore)
    assert last == [modules[holder]]
    torch.testing.assert_close(moments.sums, sums)


def _add(sums: torch.Tensor, inputs: torch.Tensor) -> None:
    states = inputs.flatten(0, -2).float()
    sums.addmm_(states.T, states)

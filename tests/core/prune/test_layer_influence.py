from __future__ import annotations

import pytest
import torch

from qpruner_core.errors import NotFiniteError
from qpruner_core.models.families import family_names, family_of
from qpruner_core.prune.layer_influence import layer_influence
from tests.core.small_models import small_model

IDS = torch.randint(0, 97, (3, 12), generator=torch.Generator().manual_seed(0))


def _ignore(done: int, total: int) -> None:
    pass


@pytest.mark.parametrize("model_type", family_names())
def test_influence_is_one_minus_the_mean_cosine_of_a_layers_input_and_output(model_type: str) -> None:
    model = small_model(model_type)
    found = layer_influence(model, family_of(model), IDS, _ignore)
    with torch.no_grad():
        states = model(input_ids=IDS, output_hidden_states=True).hidden_states
    # The last of the hidden states has gone through the final norm, so it is not the last layer's output
    for layer in range(4):
        cosines = [
            (a @ b / (a.norm() * b.norm())).item()
            for a, b in zip(states[layer].flatten(0, 1), states[layer + 1].flatten(0, 1), strict=True)
        ]
        assert found[layer] == pytest.approx(1 - sum(cosines) / len(cosines), rel=1e-9)
    assert len(found) == 5


@pytest.mark.parametrize("model_type", ["llama", "gpt2", "gpt_neox", "opt"])
def test_a_layer_that_adds_nothing_has_no_influence(model_type: str) -> None:
    model = small_model(model_type)
    family = family_of(model)
    layer = family.decoder_layers(model)[4]
    for path in (family.attention_output, family.down):
        for parameter in layer.get_submodule(path).parameters():
            parameter.data.zero_()
    influence = layer_influence(model, family, IDS, _ignore)
    assert influence[4] == pytest.approx(0, abs=1e-12)
    assert min(influence[:4]) > 1e-3


def test_states_that_are_not_numbers_are_refused() -> None:
    model = small_model("llama")
    family = family_of(model)
    family.decoder_layers(model)[1].get_submodule(family.down).weight.data[0, 0] = float("inf")
    with pytest.raises(NotFiniteError, match="not finite"):
        layer_influence(model, family, IDS, _ignore)

from __future__ import annotations

import numpy as np
import pytest
import torch

from qpruner_core.errors import NotFiniteError
from qpruner_core.models.families import family_of
from qpruner_core.score.config import ScoreConfig
from qpruner_core.score.information import ESTIMATORS
from qpruner_core.score.information.estimator import merge_rare
from qpruner_core.score.information.layer_outputs import layer_mutual_information, layer_outputs
from tests.core.small_models import small_model

CALIBRATION = torch.randint(0, 97, (4, 40), generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("model_type", ["llama", "gpt2"])
def test_outputs_are_the_hidden_states_that_the_model_itself_tells(model_type: str) -> None:
    model = small_model(model_type)
    found = layer_outputs(model, family_of(model), CALIBRATION)
    with torch.no_grad():
        told = model(CALIBRATION[:1], output_hidden_states=True)
    assert len(found.hidden) == 5
    for layer in range(4):  # of the last layer, transformers tells what the final norm made of it
        torch.testing.assert_close(found.hidden[layer][:40], told.hidden_states[layer + 1][0])
    assert found.predicted[:40].tolist() == told.logits[0].argmax(dim=-1).tolist()


def test_directions_have_length_one_whatever_the_size_of_the_state() -> None:
    model = small_model("llama")
    outputs = layer_outputs(model, family_of(model), CALIBRATION)
    outputs.hidden[2][7] *= 1000
    np.testing.assert_allclose(np.linalg.norm(outputs.directions(2), axis=1), 1, rtol=1e-5)


def test_no_more_than_4096_positions_are_kept_spread_over_every_sequence() -> None:
    model = small_model("llama", dtype=torch.float32)
    calibration = torch.randint(0, 97, (100, 60), generator=torch.Generator().manual_seed(0))
    found = layer_outputs(model, family_of(model), calibration)
    assert found.predicted.shape == (4000,)
    assert found.hidden[0].shape == (4000, 48)


@pytest.mark.parametrize("information", list(ESTIMATORS))
def test_every_layer_gets_what_the_chosen_estimator_says_of_it(information: str) -> None:
    model = small_model("llama", dtype=torch.float32)
    settings = ScoreConfig.model_validate({"information": information, "clusters": 8, "predictions": 6})
    steps = []
    scores = layer_mutual_information(
        model, family_of(model), CALIBRATION, settings, seed=3, on_layer=lambda *step: steps.append(step)
    )
    outputs = layer_outputs(model, family_of(model), CALIBRATION)
    labels = merge_rare(outputs.predicted, 6)
    assert scores == [ESTIMATORS[information](outputs.directions(n), labels, settings, 3) for n in range(5)]
    assert steps == [(n, 5) for n in range(1, 6)]


def test_a_layer_that_makes_no_numbers_is_named() -> None:
    model = small_model("llama", dtype=torch.float32)
    family = family_of(model)
    family.decoder_layers(model)[3].mlp.down_proj.weight.data[0, 0] = float("nan")
    with pytest.raises(NotFiniteError, match="layer 3"):
        layer_mutual_information(
            model, family, CALIBRATION, ScoreConfig(clusters=8), seed=0, on_layer=lambda done, total: None
        )

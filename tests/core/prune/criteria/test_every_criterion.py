"""What holds for every criterion on every family."""

from __future__ import annotations

import pytest
import torch
from transformers import PreTrainedModel

from qpruner_core.errors import NotFiniteError
from qpruner_core.models.families import Unit, family_names, family_of, positions
from qpruner_core.models.reshape import Shape
from qpruner_core.prune.bias_compensation import compensating_biases
from qpruner_core.prune.criteria import CRITERIA
from qpruner_core.prune.importance import LayerImportance, kv_groups
from qpruner_core.prune.surgery import prune_model
from tests.core.prune.units import random_importance
from tests.core.small_models import small_model

IDS = torch.randint(0, 97, (2, 12), generator=torch.Generator().manual_seed(0))
OF_OUTPUTS = ("wanda", "flap")
WITHOUT_TEXT = ("magnitude", "random")


def _score(name: str, model: PreTrainedModel) -> list[LayerImportance]:
    return CRITERIA[name](model, family_of(model), IDS, lambda done, total: None)


@pytest.mark.parametrize("model_type", family_names())
@pytest.mark.parametrize("name", CRITERIA)
def test_every_unit_has_a_score_and_the_model_is_left_as_it_was(name: str, model_type: str) -> None:
    model = small_model(model_type, dtype=torch.float32)
    family = family_of(model)
    parameters = dict(model.named_parameters())
    trained = [name for n, name in enumerate(parameters) if n % 2]
    for parameter in parameters.values():
        parameter.requires_grad_(False)
    for parameter in trained:
        parameters[parameter].requires_grad_(True)
    before = {key: parameter.detach().clone() for key, parameter in parameters.items()}

    scores = _score(name, model)

    widths = family.widths(model.config)
    for layer, width, importance in zip(family.decoder_layers(model), widths, scores, strict=True):
        units = family.unit_parameters(layer, width, family.head_dim(model.config))
        assert importance.keys() == units.keys()
        for unit, values in importance.items():
            assert values.shape == (width.count(unit),)
            assert values.dtype == torch.float64
            assert (values >= 0).all()
        assert kv_groups(importance).min() > 0
    assert [key for key, parameter in parameters.items() if parameter.requires_grad] == trained
    assert all(parameter.grad is None for parameter in parameters.values())
    assert all(torch.equal(parameter, before[key]) for key, parameter in parameters.items())
    hooks = ("_forward_hooks", "_forward_pre_hooks")
    assert not any(getattr(module, kind) for module in family.decoder_layers(model)[0].modules() for kind in hooks)
    again = _score(name, model)
    assert all(
        torch.equal(first[unit], second[unit]) for first, second in zip(scores, again, strict=True) for unit in first
    )


@pytest.mark.parametrize("model_type", ["llama", "gpt2", "gpt_neox", "qwen3_moe"])
@pytest.mark.parametrize("name", sorted(CRITERIA.keys() - {"random"}))
def test_a_unit_without_weights_has_no_importance(name: str, model_type: str) -> None:
    model = small_model(model_type, dtype=torch.float32)
    family = family_of(model)
    width = family.widths(model.config)[1]
    layer = family.decoder_layers(model)[1]
    for cut in family.cuts(layer):
        for places in positions(cut.axis, width, family.head_dim(model.config)).values():
            cut.tensor.data.index_fill_(cut.dim, places[1], 0)
    for unit, values in _score(name, model)[1].items():
        assert values[1] == 0
        if unit != "key_value_head" or name not in OF_OUTPUTS:
            assert values[0] > 0


@pytest.mark.parametrize("name", sorted(CRITERIA.keys() - {"random"}))
def test_a_model_with_a_weight_that_is_not_a_number_is_refused(name: str) -> None:
    model = small_model("llama", dtype=torch.float32)
    family = family_of(model)
    family.linears_of(family.decoder_layers(model)[2])[0].weight.data[3, 5] = float("nan")
    with pytest.raises(NotFiniteError, match="not finite"):
        _score(name, model)
    assert all(parameter.requires_grad and parameter.grad is None for parameter in model.parameters())


@pytest.mark.parametrize("name", sorted(CRITERIA.keys() - set(WITHOUT_TEXT)))
def test_progress_is_told_after_every_sequence(name: str) -> None:
    model = small_model("llama", dtype=torch.float32)
    told: list[tuple[int, int]] = []
    CRITERIA[name](model, family_of(model), IDS, lambda done, total: told.append((done, total)))
    assert told == [(1, 2), (2, 2)]


@pytest.mark.parametrize("name", sorted(CRITERIA.keys() - {"random"}))
def test_scores_in_bfloat16_are_close_to_those_in_float64(name: str) -> None:
    rough, exact = (_score(name, small_model("llama", dtype=dtype)) for dtype in (torch.bfloat16, torch.float64))
    for first, second in zip(rough, exact, strict=True):
        for unit in first:
            if second[unit].max() > 0:
                assert torch.corrcoef(torch.stack([first[unit], second[unit]]))[0, 1] > 0.9


@pytest.mark.parametrize("model_type", ["llama", "gpt2", "gpt_neox", "qwen3_moe"])
@pytest.mark.parametrize("name", CRITERIA)
def test_a_model_whose_layers_differ_and_end_in_biases_can_be_scored_again(name: str, model_type: str) -> None:
    model = small_model(model_type, dtype=torch.float32)
    family = family_of(model)
    shape: Shape = list(family.widths(model.config))
    assert shape[3] is not None
    shape[0] = None
    shape[3] = shape[3].model_copy(update={"intermediate_size": 24})
    importance = random_importance(model, family)
    biases = compensating_biases(model, family, shape, importance, IDS, lambda done, total: None)
    scores = _score(name, prune_model(model, family, shape, importance, replacements=biases, output_bias=True))
    assert len(scores) == 4
    assert scores[2][Unit.CHANNEL].shape == (24,)
    assert (scores[2][Unit.CHANNEL] > 0).all()

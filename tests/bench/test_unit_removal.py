from __future__ import annotations

import pytest
import torch
from transformers import PreTrainedModel

from bench.unit_removal import (
    UnitAt,
    correlation_table,
    predicted,
    rank_correlation,
    removal_truth,
    sample_units,
)  # fmt: skip
from qpruner_core.models.families import Unit, family_of
from qpruner_core.prune.criteria import CRITERIA
from qpruner_core.prune.gradients import reduce_gradients
from qpruner_core.prune.surgery import prune_model
from tests.core.prune.units import random_importance
from tests.core.small_models import small_model

WORDS = 97


def _ignore(done: int, total: int) -> None:
    pass


def _text(sequences: int, generator: torch.Generator) -> torch.Tensor:
    """Each token fixes the next three times in four; otherwise the one before it does."""
    follows = torch.randperm(WORDS, generator=torch.Generator().manual_seed(5))
    ids = torch.randint(0, WORDS, (sequences, 24), generator=generator)
    for position in range(2, 24):
        backwards = torch.rand(sequences, generator=generator) < 0.25
        ids[:, position] = follows[torch.where(backwards, ids[:, position - 2], ids[:, position - 1])]
    return ids


@pytest.fixture(scope="module")
def trained() -> PreTrainedModel:
    """A small Llama that has learned :func:`_text` well enough for its units to matter."""
    model = small_model("llama", dtype=torch.float32).train()
    for parameter in model.parameters():
        parameter.data = torch.ones_like(parameter) if parameter.dim() == 1 else parameter.data * 0.7
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3, weight_decay=0.1)
    generator = torch.Generator().manual_seed(1)
    losses = []
    for _ in range(120):
        ids = _text(16, generator)
        loss = model(input_ids=ids, labels=ids).loss
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] / 2
    optimizer.zero_grad(set_to_none=True)
    return model.eval()


CALIBRATION = _text(6, torch.Generator().manual_seed(2))


def test_the_truth_is_the_loss_of_the_model_that_lacks_the_unit() -> None:
    model = small_model("llama")
    family = family_of(model)
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    widths = family.widths(model.config)
    found = removal_truth(model, family, CALIBRATION, [UnitAt(1, Unit.CHANNEL, 7), UnitAt(3, Unit.KEY_VALUE_HEAD, 2)])
    assert all(torch.equal(parameter, before[name]) for name, parameter in model.named_parameters())

    def loss(one: PreTrainedModel) -> float:
        with torch.no_grad():
            return sum(one(input_ids=ids[None], labels=ids[None]).loss.item() for ids in CALIBRATION) / len(CALIBRATION)

    importance = random_importance(model, family)
    importance[1][Unit.CHANNEL][7] = -1
    importance[3][Unit.KEY_VALUE_HEAD][2] = -9
    fewer = {1: {"intermediate_size": 39}, 3: {"num_key_value_heads": 2, "num_attention_heads": 4}}
    for change, (layer, update) in zip(found, fewer.items(), strict=True):
        shape = [width.model_copy(update=update) if n == layer else width for n, width in enumerate(widths)]
        assert change == pytest.approx(loss(prune_model(model, family, shape, importance)) - loss(model), abs=1e-6)


def test_units_are_drawn_from_layers_spread_over_the_model_each_once_and_always_the_same() -> None:
    model = small_model("llama")
    units = sample_units(model, family_of(model), Unit.CHANNEL, 12, layers=3)
    assert {unit.layer for unit in units} == {0, 2, 4}
    assert len(set(units)) == 12
    assert units == sample_units(model, family_of(model), Unit.CHANNEL, 12, layers=3)


def test_a_ranking_that_is_the_truth_correlates_fully_and_its_reverse_not_at_all() -> None:
    model = small_model("llama")
    family = family_of(model)
    importance = random_importance(model, family)
    units = sample_units(model, family, Unit.CHANNEL, 20, layers=2)
    truth = predicted(importance, units)
    assert rank_correlation(importance, units, truth) == pytest.approx((1, 1, 1))
    opposite = rank_correlation(importance, units, [1 - score for score in truth])
    assert opposite == pytest.approx((-1, -1, -1))
    table = correlation_table({"random": {Unit.CHANNEL: opposite}})
    assert "channels, change" in table
    assert "| random | -1.00 | -1.00 | -1.00 |" in table


@pytest.mark.parametrize("name", ["taylor_first", "taylor_second", "taylor_mixed", "taylor_vector", "wanda", "flap"])
def test_a_criterion_that_reads_text_ranks_units_of_a_trained_model_as_their_removal_does(
    name: str, trained: PreTrainedModel, truth: dict[Unit, tuple[list[UnitAt], list[float]]]
) -> None:
    importance = CRITERIA[name](trained, family_of(trained), CALIBRATION, _ignore)
    for units, changes in truth.values():
        found = rank_correlation(importance, units, changes)
        assert found.change > 0.3


@pytest.fixture(scope="module")
def truth(trained: PreTrainedModel) -> dict[Unit, tuple[list[UnitAt], list[float]]]:
    family = family_of(trained)
    samples = {
        Unit.CHANNEL: sample_units(trained, family, Unit.CHANNEL, 50, layers=5),
        Unit.KEY_VALUE_HEAD: sample_units(trained, family, Unit.KEY_VALUE_HEAD, 15, layers=5),
    }
    return {unit: (units, removal_truth(trained, family, CALIBRATION, units)) for unit, units in samples.items()}


def test_vector_wise_scores_averaged_after_their_absolute_value_say_more_about_other_text(
    trained: PreTrainedModel,
) -> None:
    family = family_of(trained)
    units = sample_units(trained, family, Unit.CHANNEL, 150, layers=5)
    changes = removal_truth(trained, family, _text(12, torch.Generator().manual_seed(9)), units)
    ours = CRITERIA["taylor_vector"](trained, family, CALIBRATION, _ignore)
    signed = reduce_gradients(trained, family, CALIBRATION, lambda weight, grad: weight * grad, _ignore)
    other = [{unit: scores.abs() for unit, scores in layer.items()} for layer in signed]
    better, worse = (rank_correlation(importance, units, changes) for importance in (ours, other))
    assert better.absolute > worse.absolute
    assert better.change > worse.change

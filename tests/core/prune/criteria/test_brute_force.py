"""Every criterion against its formula, computed naively with all gradients or activations at hand, in float64."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from transformers import PreTrainedModel

from qpruner_core.models.families import Unit, find_family
from qpruner_core.prune.criteria import CRITERIA
from qpruner_core.prune.criteria.taylor_mixed import taylor_mixed
from qpruner_core.prune.importance import LayerImportance
from tests.core.prune.criteria.unit_weights import COUNTS, FAMILIES, LAYERS, OUTPUTS, slices_of
from tests.core.small_models import BIASED, small_model

IDS = torch.randint(0, 97, (3, 16), generator=torch.Generator().manual_seed(0))
Score = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


def _model(model_type: str) -> PreTrainedModel:
    return small_model(model_type, **BIASED if model_type == "llama" else {})


def _ignore(done: int, total: int) -> None:
    pass


def _gradients(model: PreTrainedModel) -> dict[str, torch.Tensor]:
    """Parameter -> its gradients of every sequence, stacked."""
    stacked: dict[str, list[torch.Tensor]] = {}
    for sequence in IDS:
        model.zero_grad()
        logits = model(input_ids=sequence[None]).logits
        torch.nn.functional.cross_entropy(logits[0, :-1], sequence[1:]).backward()
        for name, parameter in model.named_parameters():
            assert parameter.grad is not None or "lm_head" in name or "embed" in name
            if parameter.grad is not None:
                stacked.setdefault(name, []).append(parameter.grad.clone())
    return {name: torch.stack(gradients) for name, gradients in stacked.items()}


# (weight, its gradients of every sequence [sequences, ...]) of the weights of one unit, flattened and joined
TAYLOR: dict[str, Score] = {
    "taylor_first": lambda w, g: (w * g).abs().mean(0).sum(),
    "taylor_second": lambda w, g: (0.5 * w**2 * (g**2).mean(0)).abs().sum(),
    "taylor_mixed": lambda w, g: (w * g.mean(0) - 0.5 * w**2 * (g**2).mean(0)).abs().sum(),
    "taylor_vector": lambda w, g: (w * g).sum(1).abs().mean(),
    "magnitude": lambda w, g: w.abs().sum(),
}


def _from_weights(model_type: str, score: Score) -> list[LayerImportance]:
    model = _model(model_type)
    gradients = _gradients(model)
    importance = []
    for layer in range(5):
        scores: LayerImportance = {}
        for unit, count in COUNTS[model_type].items():
            values = []
            for n in range(count):
                found = [
                    (f"{LAYERS[model_type]}.{layer}.{path}", index) for path, index in slices_of(model_type, unit, n)
                ]
                weight = torch.cat([model.get_parameter(name).detach()[index].flatten() for name, index in found])
                gradient = torch.cat(
                    [gradients[name][(slice(None), *index)].reshape(len(IDS), -1) for name, index in found], 1
                )
                values.append(score(weight, gradient))
            scores[unit] = torch.stack(values)
        importance.append(scores)
    return importance


def _check(found: list[LayerImportance], expected: list[LayerImportance]) -> None:
    assert len(found) == len(expected)
    for scores, reference in zip(found, expected, strict=True):
        assert scores.keys() == reference.keys()
        for unit in reference:
            assert scores[unit].dtype == torch.float64
            torch.testing.assert_close(scores[unit], reference[unit], rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("model_type", FAMILIES)
@pytest.mark.parametrize("name", TAYLOR)
def test_a_criterion_of_weights_equals_its_formula(name: str, model_type: str) -> None:
    found = CRITERIA[name](_model(model_type), find_family(model_type), IDS, _ignore)
    _check(found, _from_weights(model_type, TAYLOR[name]))


def test_mixed_scores_do_not_depend_on_how_much_is_scored_at_a_time() -> None:
    passes: list[tuple[int, int]] = []
    found = taylor_mixed(
        _model("llama"), find_family("llama"), IDS, lambda done, total: passes.append((done, total)), allowance=100_000
    )
    _check(found, _from_weights("llama", TAYLOR["taylor_mixed"]))
    assert passes[0][1] > 3 * len(IDS)
    assert [done for done, _ in passes] == list(range(1, passes[0][1] + 1))


def _inputs(model: PreTrainedModel, model_type: str, layer: int, path: str) -> torch.Tensor:
    """All that flows into a module, ``[tokens, features]``."""
    seen: list[torch.Tensor] = []
    module = model.get_submodule(f"{LAYERS[model_type]}.{layer}.{path}")
    handle = module.register_forward_pre_hook(lambda _, args: seen.append(args[0].reshape(-1, args[0].shape[-1])))
    with torch.no_grad():
        for sequence in IDS:
            model(input_ids=sequence[None])
    handle.remove()
    return torch.cat(seen)


# (inputs of a module [tokens], the column of weights that one of them multiplies) to the score of that column
ACTIVATIONS: dict[str, Score] = {
    "wanda": lambda x, column: (column.abs() * (x**2).mean().sqrt()).sum(),
    "flap": lambda x, column: ((x - x.mean()) ** 2).sum() / (len(x) - 1) * (column**2).sum(),
}


@pytest.mark.parametrize("model_type", FAMILIES)
@pytest.mark.parametrize("name", ACTIVATIONS)
def test_a_criterion_of_activations_equals_its_formula(name: str, model_type: str) -> None:
    model = _model(model_type)
    expected: list[LayerImportance] = []
    for layer in range(5):
        columns = []
        for path in OUTPUTS[model_type]:
            weight = model.get_parameter(f"{LAYERS[model_type]}.{layer}.{path}.weight").detach()
            weight = weight.T if model_type == "gpt2" else weight
            inputs = _inputs(model, model_type, layer, path)
            columns.append(torch.stack([ACTIVATIONS[name](inputs[:, n], weight[:, n]) for n in range(weight.shape[1])]))
        expected.append({
            Unit.CHANNEL: columns[1],
            Unit.QUERY_HEAD: columns[0].view(6, 8).sum(1),
            Unit.KEY_VALUE_HEAD: torch.zeros(COUNTS[model_type][Unit.KEY_VALUE_HEAD], dtype=torch.float64),
        })  # fmt: skip
    _check(CRITERIA[name](model, find_family(model_type), IDS, _ignore), expected)

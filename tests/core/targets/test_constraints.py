"""Whatever chooses an allocation, the target's constraints hold: shapes, fused modules, embeddings, bytes."""

from __future__ import annotations

import random
from collections.abc import Iterator
from functools import partial

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from qpruner_core.allocate.config import AllocateConfig
from qpruner_core.config import parse_config
from qpruner_core.mixed.groups import embedding_names, linear_names, module_shape, precision_by_module
from qpruner_core.models.families import find_family
from qpruner_core.presets import PAPER_PRESETS
from qpruner_core.search import knapsack
from qpruner_core.search.candidates import candidates
from qpruner_core.search.scores import Scores
from qpruner_core.search.search import AllocationSearch
from qpruner_core.search.seeds import at_random, by_mutual_information, uniform
from qpruner_core.search.space import Allocation, SearchSpace
from qpruner_core.search.stored_search import StoredSearch, StoredSpace
from qpruner_core.search.trial import Trial
from qpruner_core.targets.config import PRECISIONS, TargetName
from qpruner_core.targets.registry import TARGETS, bind_target
from tests.core.search.spaces import measured_by
from tests.core.small_models import small_config
from tests.core.targets.target_cases import TargetCase, random_losses, target_cases

_ONE_BY_ONE = ("knapsack", "mutual_information", "uniform")
quick = settings(deadline=None, max_examples=8, derandomize=True, phases=[Phase.explicit, Phase.generate])


def _check(case: TargetCase, space: SearchSpace, allocation: Allocation) -> None:
    """The allocation means precisions that the engine can hold where they are, within the budget."""
    model, target = case.skeleton, case.target
    found = precision_by_module(case.memory.groups, allocation)
    assert case.memory.total(allocation) == space.total(allocation) <= space.budget
    for name, precision in found.items():
        assert precision in PRECISIONS[target.name]
        assert target.precisions[precision].accepts(*module_shape(model.get_submodule(name))), (name, precision)
    for layer in range(len(case.family.decoder_layers(model))):
        linears = {name: found[name] for name in linear_names(model, case.family, layer)}
        for paths in target.together(case.family):
            alike = {kind for name, kind in linears.items() if name.partition(f".{layer}.")[2] in paths}
            assert len(alike) <= 1, (paths, linears)
    for name in embedding_names(model).values():
        kind = found.get(name, "bf16")
        allowed = {target.stored_as(option, [module_shape(model.get_submodule(name))])
                   for option in target.embedding_options}  # fmt: skip
        assert kind in allowed | {"bf16"}


def _searched(space: SearchSpace, scores: Scores, **chosen: object) -> list[Trial]:
    allocate = AllocateConfig.model_validate({"trials": 6, "random_seeds": 2, "candidates": 20} | chosen)
    search = AllocationSearch(space, scores, allocate, seed=0)
    return search.run(partial(map, measured_by(scores.additive_loss)), lambda trial: None)


def _proposed(space: SearchSpace, scores: Scores, seed: int) -> Iterator[Allocation]:
    """By every seed, candidates, the knapsack and every search."""
    generator = random.Random(seed)
    first = [
        uniform(space), by_mutual_information(space, scores.mutual_information), at_random(space, generator),
        knapsack.solve(space, scores.sensitivity),
    ]  # fmt: skip
    yield from first
    yield from candidates(space, first, 10, generator)
    for search in (*_ONE_BY_ONE, "random", "bayesian"):
        yield from (trial.precisions for trial in _searched(space, scores, search=search))


@pytest.mark.parametrize("name", TARGETS)
@quick
@given(data=st.data(), share=st.floats(0, 1), other=st.floats(0, 1), seed=st.integers(0, 999))
def test_no_search_and_no_answer_for_another_budget_breaks_what_the_target_demands(
    name: TargetName, data: st.DataObject, share: float, other: float, seed: int
) -> None:
    case = data.draw(target_cases(name))
    space = case.space(share)
    layers = len(case.family.widths(case.config))
    scores = Scores(
        groups=[group.name for group in case.memory.groups],
        mutual_information=[random.Random(seed + layer).random() for layer in range(layers)],
        sensitivity=random_losses(space, seed),
    )
    for allocation in dict.fromkeys(_proposed(space, scores, seed)):
        _check(case, space, allocation)
    trials = _searched(space, scores, search="random")
    stored = StoredSearch(scores=scores, space=StoredSpace.of(case.memory), trials=trials)
    again = case.space(other)
    answer = stored.answer(again.budget)
    assert answer.bytes == again.total(answer.precisions)
    _check(case, again, tuple(answer.precisions))


@pytest.mark.parametrize("preset", sorted(PAPER_PRESETS))
@pytest.mark.parametrize("family", ["llama", "opt", "qwen3_moe"])
def test_presets_have_what_their_target_can_hold(preset: str, family: str) -> None:
    config = parse_config({"model": "m", "dataset": "d", "memory_budget": 10**6, "preset": preset})
    target = bind_target(config.target, config.quantize, config.allocate)
    assert set(target.options) <= set(PRECISIONS[config.target])
    dense = small_config(family)
    case = TargetCase(dense, find_family(family), target)
    for share in (0.0, 0.5, 1.0):
        space = case.space(share)
        scores = Scores(
            groups=[group.name for group in case.memory.groups],
            mutual_information=[1.0] * len(case.family.widths(dense)),
            sensitivity=random_losses(space, 0),
        )
        chosen = config.allocate.model_dump(include={"search", "prior", "objective"})
        for trial in _searched(space, scores, **chosen):
            _check(case, space, trial.precisions)

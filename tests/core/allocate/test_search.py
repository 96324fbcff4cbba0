from __future__ import annotations

import math
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qpruner_core.allocate.config import AllocateConfig
from qpruner_core.allocate.memory_model import MemoryModel
from qpruner_core.allocate.search import AllocationSearch
from qpruner_core.allocate.seeds import at_random, by_mutual_information, by_sensitivity, uniform
from qpruner_core.allocate.trial import Trial, pareto_front
from qpruner_core.models.families import find_family
from qpruner_core.quantize.config import QuantizeConfig
from qpruner_core.score.scores import Scores
from tests.core.small_models import small_config

LAYERS_ONLY = AllocateConfig(embeddings=False)


@pytest.fixture(scope="module")
def memory() -> MemoryModel:
    config = small_config("llama", num_hidden_layers=8, intermediate_size=128)
    return MemoryModel(config, find_family("llama"), QuantizeConfig(), LAYERS_ONLY)


def scores_of(seed: int, layers: int = 8) -> Scores:
    generator = random.Random(seed)
    four = [math.exp(generator.uniform(-6, -2)) for _ in range(layers)]
    return Scores(
        groups=[f"layers.{layer}" for layer in range(layers)],
        mutual_information=[generator.random() for _ in range(layers)],
        sensitivity=[{4: loss, 8: loss / 50, 16: 0.0} for loss in four],
    )


def budget_between(memory: MemoryModel, share: float) -> int:
    low, high = memory.total([4] * 8), memory.total([16] * 8)
    return low + int(share * (high - low))


@settings(deadline=None, max_examples=50)
@given(share=st.floats(0, 1), seed=st.integers(0, 1000))
def test_no_seed_exceeds_the_budget(memory: MemoryModel, share: float, seed: int) -> None:
    budget = budget_between(memory, share)
    scores = scores_of(seed)
    for allocation in (
        uniform(memory, budget),
        by_mutual_information(memory, budget, scores),
        by_sensitivity(memory, budget, scores),
        at_random(memory, budget, random.Random(seed)),
    ):
        assert memory.total(allocation) <= budget


@settings(deadline=None, max_examples=10)
@given(share=st.floats(0, 1), seed=st.integers(0, 1000))
def test_no_trial_exceeds_the_budget_or_is_tried_twice(memory: MemoryModel, share: float, seed: int) -> None:
    budget = budget_between(memory, share)
    scores = scores_of(seed)
    search = AllocationSearch(memory, scores, AllocateConfig(trials=14, candidates=60), budget=budget, seed=seed)
    trials = search.run(scores.additive_loss, lambda trial: None)
    assert all(trial.bytes == memory.total(trial.bits) <= budget for trial in trials)
    assert len({trial.bits for trial in trials}) == len(trials) <= 14
    assert search.best.loss == min(trial.loss for trial in trials)


def test_the_search_finds_an_interaction_that_no_seed_knows(memory: MemoryModel) -> None:
    """Layers 2 and 5 hurt each other at 4 bits, which the additive scores do not show."""
    scores = scores_of(3)
    budget = budget_between(memory, 0.2)

    def true_loss(bits: tuple[int, ...]) -> float:
        return scores.additive_loss(bits) + (0.5 if bits[2] == 4 or bits[5] == 4 else 0.0)

    search = AllocationSearch(memory, scores, AllocateConfig(trials=60), budget=budget, seed=0)
    trials = search.run(true_loss, lambda trial: None)
    seeds = [trial for trial in trials if trial.origin != "bayesian"]
    assert search.best.loss <= min(trial.loss for trial in seeds)
    assert search.best.bits[2] > 4
    assert search.best.bits[5] > 4


def test_the_same_seed_tries_the_same_allocations(memory: MemoryModel) -> None:
    runs = []
    for _ in range(2):
        search = AllocationSearch(
            memory, scores_of(1), AllocateConfig(trials=16), budget=budget_between(memory, 0.4), seed=7
        )
        runs.append([trial.bits for trial in search.run(scores_of(1).additive_loss, lambda trial: None)])
    assert runs[0] == runs[1]


def test_a_budget_for_the_lowest_precision_alone_ends_after_its_only_allocation(memory: MemoryModel) -> None:
    search = AllocationSearch(memory, scores_of(0), AllocateConfig(), budget=memory.total([4] * 8), seed=0)
    assert [trial.bits for trial in search.run(lambda bits: 0.1, lambda trial: None)] == [(4,) * 8]


def test_more_sensitive_layers_get_more_bits(memory: MemoryModel) -> None:
    scores = Scores(
        groups=[f"layers.{layer}" for layer in range(8)],
        mutual_information=[0.0] * 8,
        sensitivity=[{4: 1.0 if layer in (1, 6) else 0.001, 8: 0.0001, 16: 0.0} for layer in range(8)],
    )
    step = memory.group(0, 8) - memory.group(0, 4)
    bits = by_sensitivity(memory, memory.total([4] * 8) + 2 * step, scores)
    assert [layer for layer, bit in enumerate(bits) if bit == 8] == [1, 6]


def test_the_pareto_front_has_the_best_loss_at_every_size() -> None:
    points = [(10, 5.0), (10, 4.0), (12, 4.5), (13, 3.0), (15, 3.0), (16, 1.0)]
    trials = [Trial(index=i, origin="random", bits=(4,), bytes=b, loss=loss) for i, (b, loss) in enumerate(points)]
    assert [(trial.bytes, trial.loss) for trial in pareto_front(trials)] == [(10, 4.0), (13, 3.0), (16, 1.0)]

"""Another budget is answered from what a search left, exactly where it is known."""

from __future__ import annotations

import itertools
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qpruner_core.errors import BudgetInfeasibleError
from qpruner_core.search.scores import Scores
from qpruner_core.search.stored_search import StoredSearch, StoredSpace
from qpruner_core.search.trial import MeasuredTrial

SIZES = [{"nf4": 10, "int8": 20, "bf16": 40}, {"nf4": 30, "int8": 50, "bf16": 100}, {"int8": 70, "bf16": 140}]
LOSSES = [{"nf4": 0.4, "int8": 0.1, "bf16": 0.0}, {"nf4": 0.9, "int8": 0.2, "bf16": 0.0}, {"int8": 0.05, "bf16": 0.0}]
NAMES = ["layers.0", "layers.1", "embeddings"]
SPACE = StoredSpace(groups=NAMES, layers=[0, 1, None], group_bytes=SIZES, fixed_bytes=5)
SCORES = Scores(groups=NAMES, mutual_information=[1.0, 2.0], sensitivity=LOSSES)
ALL = list(itertools.product(*SIZES))
LEAST = 5 + 10 + 30 + 70


def size(allocation: tuple[str, ...]) -> int:
    return 5 + sum(sizes[option] for sizes, option in zip(SIZES, allocation, strict=True))


def search(*measured: tuple[tuple[str, ...], float]) -> StoredSearch:
    trials = [
        MeasuredTrial(index=index, origin="random", precisions=each, bytes=size(each), loss=loss, screening_loss=loss)
        for index, (each, loss) in enumerate(measured)
    ]
    return StoredSearch(scores=SCORES, space=SPACE, trials=trials)


@given(
    st.integers(LEAST, 300), st.lists(st.tuples(st.sampled_from(ALL), st.floats(0.01, 9.0)), unique_by=lambda t: t[0])
)
def test_the_answer_keeps_the_budget_and_no_measured_trial_within_it_is_better(
    budget: int, measured: list[tuple[tuple[str, ...], float]]
) -> None:
    answer = search(*measured).answer(budget)
    losses = dict(measured)
    assert answer.bytes == size(tuple(answer.precisions)) <= budget
    assert answer.measured == (tuple(answer.precisions) in losses)
    if answer.measured:
        assert answer.loss == losses[tuple(answer.precisions)]
    assert all(answer.loss <= loss for each, loss in measured if size(each) <= budget)


@pytest.mark.parametrize("budget", range(LEAST, 290, 7))
def test_without_trials_it_is_the_best_of_the_scores_by_exhaustion(budget: int) -> None:
    answer = search().answer(budget)
    best = min(SCORES.additive_loss(each) for each in ALL if size(each) <= budget)
    assert answer.loss == pytest.approx(best)
    assert not answer.measured


@pytest.mark.parametrize("budget", [LEAST, 120, 180, 240])
def test_what_is_left_after_recovery_is_not_laid_to_the_precisions_charge(budget: int) -> None:
    """Losses on text are far above zero, whatever the precisions: an untried allocation promises little less."""
    few = [each for each in ALL if size(each) > 150][::9]
    trials = search(*((each, 3.0 + SCORES.additive_loss(each)) for each in few)).trials
    answer = StoredSearch(scores=SCORES, space=SPACE, trials=trials, objective="recovered").answer(budget)
    best = min(SCORES.additive_loss(each) for each in ALL if size(each) <= budget)
    assert answer.loss == pytest.approx(3.0 + best, rel=0.05)


def test_predictions_are_corrected_by_how_much_the_scores_were_wrong() -> None:
    doubled = search(*((each, 2 * SCORES.additive_loss(each)) for each in ALL if size(each) > 200))
    plain = search().answer(180)
    assert doubled.answer(180).precisions == plain.precisions
    assert doubled.answer(180).loss == pytest.approx(2 * plain.loss, rel=0.05)


def test_a_trial_that_was_stopped_early_teaches_and_is_never_the_answer() -> None:
    plain = search().answer(180)
    hopeless = MeasuredTrial(
        index=0, origin="knapsack", precisions=tuple(plain.precisions), bytes=plain.bytes, loss=9.0, screening_loss=9.0,
        stopped_early=True,
    )  # fmt: skip
    taught = StoredSearch(scores=SCORES, space=SPACE, trials=[hopeless])
    answer = taught.answer(180)
    assert answer.precisions != plain.precisions
    assert not answer.measured
    assert taught.front() == []


def test_a_budget_below_the_smallest_precisions_is_refused_with_the_least_that_is_possible() -> None:
    with pytest.raises(BudgetInfeasibleError) as raised:
        search().answer(LEAST - 1)
    assert (raised.value.smallest_feasible_bytes, raised.value.field) == (LEAST, "memory_budget")
    assert "compress again" in raised.value.remedy  # with smaller precisions, which this search did not have


def test_asking_loads_neither_torch_nor_transformers() -> None:
    code = (
        "import sys, qpruner_core.search.knapsack, qpruner_core.search.stored_search; "
        "assert not {'torch', 'transformers'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)

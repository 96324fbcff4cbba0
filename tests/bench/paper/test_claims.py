from __future__ import annotations

import math

import pytest

from bench.paper.claims import Claim, Difference, claims, loss_difference, mean_accuracy
from bench.paper.rows import PaperRow
from tests.bench.paper.made_up_rows import TEXT, memory, report, row, search

BASELINE = row("LLM-Pruner", size=1000)


def _holds(found: list[Claim], beginning: str) -> list[bool | None]:
    return [claim.holds for claim in found if claim.what.startswith(beginning)]


def _difference(rows: list[PaperRow], others: list[PaperRow]) -> Difference:
    found = loss_difference(rows, others, TEXT)
    assert found is not None
    return found


def test_the_difference_of_losses_is_paired_by_window() -> None:
    found = _difference([row("a", (3.1, 4.1))], [row("b", (3.0, 4.0))])

    assert found.mean == pytest.approx(0.1)
    assert found.error == pytest.approx(0.0, abs=1e-9)


def test_the_difference_of_losses_is_paired_by_seed() -> None:
    ours = [row("a", (3.1, 4.1)), row("a", (5.1, 6.1), seed=1)]
    theirs = [row("b", (5.0, 6.0), seed=1), row("b", (3.0, 4.0)), row("b", (9.0, 9.0), seed=2)]

    found = _difference(ours, theirs)

    assert found.mean == pytest.approx(0.1)
    assert found.error == pytest.approx(0.0, abs=1e-9)
    assert loss_difference(ours[:1], theirs[:1], TEXT) is None


def test_the_error_of_a_difference_has_that_over_windows_and_that_over_seeds() -> None:
    ours = [row("a", (3.0, 4.0)), row("a", (3.4, 4.6), seed=1)]

    found = _difference(ours, [row("b", (3.0, 4.0)), row("b", (3.0, 4.0), seed=1)])

    assert found.mean == pytest.approx(0.25)
    over_windows, over_seeds = 0.05, 0.25  # of (0.2, 0.3), and of (0.0, 0.5)
    assert found.error == pytest.approx(math.hypot(over_windows, over_seeds))


def test_accuracy_is_the_mean_of_the_judged_tasks_alone() -> None:
    assert mean_accuracy([row("a", accuracy=0.6)]) == pytest.approx((0.6, 0.04 / math.sqrt(2)))


@pytest.mark.parametrize(("size", "holds"), [(700, True), (701, False)])
def test_thirty_percent_less_memory_is_counted_to_the_byte(size: int, holds: bool) -> None:
    assert _holds(claims(report([BASELINE, row("ours", size=size)])), "ours: loaded") == [holds]


def test_memory_in_recovery_is_compared_like_with_like() -> None:
    rows = [BASELINE, row("ours"), row("QPruner3")]
    measured = [memory("LLM-Pruner", kept=1000, recomputed=500), memory("ours", kept=710, recomputed=340)]
    found = claims(report(rows, memory=measured))

    assert _holds(found, "ours: in recovery, activations kept") == [False]
    assert _holds(found, "ours: in recovery, activations recomputed") == [True]
    assert _holds(found, "QPruner3: in recovery") == [None, None]


def test_quality_is_no_worse_within_the_standard_error_and_worse_beyond_it() -> None:
    noisy = [BASELINE, row("ours", (3.3, 3.9))]  # 0.1 ± 0.2
    worse = [BASELINE, row("ours", (3.3, 4.2))]  # 0.25 ± 0.05

    assert _holds(claims(report(noisy)), "ours: no worse than LLM-Pruner, perplexity") == [True]
    assert _holds(claims(report(worse)), "ours: no worse than LLM-Pruner, perplexity") == [False]


def test_accuracy_far_below_the_baseline_is_worse() -> None:
    found = claims(report([BASELINE, row("ours", accuracy=0.3)]))

    assert _holds(found, "ours: no worse than LLM-Pruner, mean accuracy") == [False]


def test_lower_perplexity_than_the_paper_must_be_beyond_the_standard_error() -> None:
    clear = [row("QPruner3"), row("ours", (2.8, 3.8))]
    unclear = [row("QPruner3"), row("ours", (2.7, 4.1))]

    assert _holds(claims(report(clear)), "ours: lower perplexity") == [True]
    assert _holds(claims(report(unclear)), "ours: lower perplexity") == [False]


def test_our_search_counts_from_the_first_allocation_as_good_as_the_papers_last() -> None:
    paper = search("QPruner3", [(100.0, 3.0, 60.0), (1000.0, 2.0, 50.0)], objective="recovered")
    fast = search("ours", [(20.0, 1.0, 55.0), (90.0, 0.9, 50.0), (500.0, 0.8, 40.0)])
    slow = search("ours", [(20.0, 1.0, 55.0), (110.0, 0.9, 49.0)])
    never = search("ours", [(20.0, 1.0, 55.0)])

    for ours, holds, found in ((fast, True, "9.0%"), (slow, False, "11.0%"), (never, False, "ends at 55.00")):
        for claim in (one for one in claims(report([], [ours, paper])) if "final quality" in one.what):
            assert claim.holds is holds
            assert found in claim.found


def test_our_search_is_told_with_and_without_the_quantizing_that_both_need() -> None:
    paper = search("QPruner3", [(500.0, 2.0, 50.0)]).model_copy(update={"quantizing": 100.0})
    ours = search("ours", [(130.0, 0.9, 50.0)]).model_copy(update={"quantizing": 100.0})

    without, counted = [one for one in claims(report([], [ours, paper])) if "final quality" in one.what]
    assert (without.holds, without.found) == (True, "7.5% of them: 30 s of 400 s")
    assert (counted.holds, counted.found) == (False, "26.0% of them: 130 s of 500 s")

"""Claims follow from rows."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.frontier.claims import claims, ratio
from tests.bench.frontier.reports import TEXT, report, row


def test_claims_hold_where_ours_has_half_of_their_divergence_at_four_times_their_seconds() -> None:
    found = claims(report(share=0.5, times=4.0))
    assert {claim.holds for claim in found} == {True}
    assert {claim.kind for claim in found} == {"llama", "rival", "seconds"}


def test_claims_fail_by_kind_where_ours_is_no_better_and_slower() -> None:
    found = claims(report(share=1.0, times=6.0))
    assert {claim.holds for claim in found} == {False}


def test_ours_is_compared_with_a_rival_by_its_largest_checkpoint_that_takes_no_more_bytes() -> None:
    made = report(share=0.5, times=1.0)
    (claim,) = [claim for claim in claims(made) if "AutoRound" in claim.what]
    within = [one for one in made.rows if one.group == "ours" and one.bytes <= 140]
    largest = max(within, key=lambda one: one.bytes)
    assert claim.found.startswith(f"{largest.texts[TEXT].divergence / 0.05:.2f}")


@given(st.lists(st.floats(0.01, 1.0), min_size=2, max_size=8), st.floats(0.1, 3.0))
def test_the_ratio_of_proportional_divergences_is_exact(windows: list[float], share: float) -> None:
    other, own = row("theirs", "", 1.0), row("ours", "", 1.0)
    other.texts[TEXT].windows = windows
    own.texts[TEXT].windows = [share * one for one in windows]
    found = ratio(own, other, TEXT)
    assert found.value == pytest.approx(share)
    assert found.error == pytest.approx(0.0, abs=1e-9)

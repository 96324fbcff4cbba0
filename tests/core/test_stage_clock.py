from __future__ import annotations

import pytest

from qpruner_core.events import StageFinished, StageProgress, StageStarted
from qpruner_core.stage_clock import StageClock, duration


class Time:
    def __init__(self) -> None:
        self.seconds = 1000.0

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture
def time() -> Time:
    return Time()


def started(time: Time, expected: float | None = 20.0, later: float | None = 100.0) -> StageClock:
    clock = StageClock(time)
    time.seconds += 5
    clock.follow(StageStarted(stage="score", expected_seconds=expected, expected_later_seconds=later))
    return clock


def test_a_stage_takes_what_was_estimated_until_it_says_how_far_it_is(time: Time) -> None:
    clock = started(time)
    time.seconds += 8
    assert (clock.elapsed, clock.stage_elapsed) == (13, 8)
    assert (clock.stage_expected, clock.stage_left, clock.left) == (20, 12, 112)


def test_how_far_a_stage_is_foretells_its_time_better_than_the_estimate(time: Time) -> None:
    clock = started(time, expected=1.0)
    time.seconds += 10
    clock.follow(StageProgress(stage="score", fraction=0.25))
    assert clock.stage_expected == 40
    time.seconds += 20  # without news: what is known is from when it was reported
    assert (clock.stage_expected, clock.stage_left, clock.left) == (40, 10, 110)


def test_a_time_left_is_never_negative(time: Time) -> None:
    clock = started(time)
    time.seconds += 10
    clock.follow(StageProgress(stage="score", fraction=0.5))
    time.seconds += 100
    assert (clock.stage_left, clock.left) == (0, 100)


def test_a_stage_that_outlasts_its_estimate_and_says_nothing_has_no_expected_time(time: Time) -> None:
    clock = started(time)
    time.seconds += 21
    assert (clock.stage_expected, clock.stage_left, clock.left) == (None, None, None)


def test_without_an_estimate_nothing_is_foretold(time: Time) -> None:
    clock = started(time, None, None)
    assert (clock.stage_expected, clock.left) == (None, None)
    time.seconds += 10
    clock.follow(StageProgress(stage="score", fraction=0.5))
    assert (clock.stage_expected, clock.left) == (20, None)


def test_the_next_stage_begins_anew(time: Time) -> None:
    clock = started(time)
    clock.follow(StageProgress(stage="score", fraction=0.5, message="half"))
    clock.follow(StageFinished(stage="score", key="", directory="", files=[], summary={}, seconds=1.0))
    assert clock.stage is None
    time.seconds += 1
    clock.follow(StageStarted(stage="allocate"))
    assert (clock.stage, clock.fraction, clock.message, clock.stage_elapsed) == ("allocate", 0.0, "", 0.0)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.0, "0.0 s"), (0.44, "0.4 s"), (9.94, "9.9 s"), (9.96, "10 s"), (59.4, "59 s"), (59.6, "1:00 min"),
     (125, "2:05 min"), (3599.7, "1:00:00 h"), (90061, "25:01:01 h")],
)  # fmt: skip
def test_durations_are_as_people_write_them(seconds: float, text: str) -> None:
    assert duration(seconds) == text

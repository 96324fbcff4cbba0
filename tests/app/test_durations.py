"""Times as people write them, and back."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.durations import LONGEST, format_duration, parse_duration


@given(st.integers(1, LONGEST))
def test_what_is_shown_is_read_as_the_same(seconds: int) -> None:
    assert parse_duration(format_duration(seconds)) == seconds
    assert parse_duration(seconds) == parse_duration(str(seconds)) == seconds


@pytest.mark.parametrize(
    ("text", "seconds"), [("90m", 5400), ("12h", 43_200), ("1d 12h", 129_600), ("1h30m", 5400), (" 5 s ", 5), (7.0, 7)]
)
def test_times_have_units(text: object, seconds: int) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize(
    "value",
    [
        "",
        "soon",
        "1.5h",
        "-1",
        0,
        -5,
        True,
        None,
        1.5,
        "1y",
        "h",
        "1h x",
        "1" * 65,
        10**40,
        "9" * 60,
        "11111111d",
        [1],
        "1s    " * 10 + "!",
    ],
)
def test_what_is_no_time_is_refused_with_the_remedy(value: object) -> None:
    with pytest.raises(ValueError, match="Give seconds"):
        parse_duration(value)


@given(st.text(max_size=80))
def test_any_text_is_a_time_or_is_refused(text: str) -> None:
    with suppress(ValueError):
        assert 1 <= parse_duration(text) <= LONGEST

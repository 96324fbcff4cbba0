"""What is new of a job's output since it was last looked at."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qpruner_client.log_tail import LogTail
from qpruner_client.models import LogView

KEPT = 400


def of(text: str, attempt: int = 1) -> LogView:
    kept = text[-KEPT:]
    return LogView(attempt=attempt, text=kept, omitted_bytes=len(text) - len(kept), updated_at=datetime.now(UTC))


@given(st.lists(st.integers(0, 300), max_size=8))
def test_every_line_comes_once_although_the_beginning_is_kept_no_more(sizes: list[int]) -> None:
    tail, whole, taken, count = LogTail(), "", "", 0
    for size in [*sizes, 0]:
        for _ in range(size // 10):
            whole += f"line {count}\n"
            count += 1
        taken += tail.take([of(whole)], ended=False)
    assert taken == whole


def test_a_line_that_may_be_overwritten_is_kept_back_until_its_attempt_is_over() -> None:
    tail = LogTail()
    assert tail.take([], ended=False) == ""
    assert tail.take([of("begun\n 10%")], ended=False) == "begun\n"
    assert tail.take([of("begun\n 20%"), of("again\n", attempt=2)], ended=False) == " 20%again\n"
    assert tail.take([of("begun\n 20%"), of("again\nend", attempt=2)], ended=True) == "end"


@pytest.mark.parametrize("before", [1, 3])
def test_a_retried_job_is_followed_from_its_new_first_attempt(before: int) -> None:
    tail = LogTail()
    tail.take([of("old\n", attempt=before)], ended=False)
    assert tail.take([of("new\n")], ended=True) == "new\n"

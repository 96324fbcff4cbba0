"""Identifiers."""

from __future__ import annotations

import threading

import pytest

from app.ids import is_id, new_id


def test_ids_made_one_after_another_sort_in_that_order() -> None:
    made = [new_id("job") for _ in range(5000)]
    assert made == sorted(set(made))
    assert all(is_id(each, "job") for each in made)


def test_ids_made_by_many_threads_are_all_different() -> None:
    made: list[str] = []
    threads = [threading.Thread(target=lambda: made.extend(new_id("ds") for _ in range(500))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(made)) == 2000


@pytest.mark.parametrize(
    "text", ["", "job_", "ds_01k9t4ae5xfz3v2s6q0m8y1d7c", "job_01k9t4ae5xfz3v2s6q0m8y1d7",
             "job_01K9T4AE5XFZ3V2S6Q0M8Y1D7C",
             "job_81k9t4ae5xfz3v2s6q0m8y1d7c", "job_01k9t4ae5xfz3v2s6q0m8y1d7c\n", "job_../../../../../../../../.."],
)  # fmt: skip
def test_what_no_process_would_have_made_is_no_id(text: str) -> None:
    assert not is_id(text, "job")

"""Small computations beside each other."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from functools import partial

import pytest
import torch

from qpruner_core.compute.side_by_side import side_by_side

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def test_results_come_in_order_and_two_calls_run_at_once() -> None:
    both = threading.Barrier(2, timeout=20)

    def call(number: int) -> tuple[int, int]:
        both.wait()
        return number, torch.get_num_threads()

    assert side_by_side([partial(call, number) for number in range(4)], CPU) == [(number, 1) for number in range(4)]
    assert torch.get_num_threads() == 2
    assert side_by_side([torch.get_num_threads], CPU) == [2], "a single call may use all threads"


def test_threads_that_start_later_use_all_threads_again() -> None:
    side_by_side([torch.get_num_threads] * 3, CPU)
    seen: list[int] = []
    later = threading.Thread(target=lambda: seen.append(torch.get_num_threads()))
    later.start()
    later.join()
    assert seen == [2]


@pytest.mark.parametrize("enabled", [False, True])
def test_calls_have_the_grad_mode_of_their_caller(enabled: bool) -> None:
    with torch.set_grad_enabled(enabled):
        assert side_by_side([torch.is_grad_enabled] * 3, CPU) == [enabled] * 3


def test_a_call_that_fails_is_reported_and_the_threads_are_given_back() -> None:
    def fail() -> None:
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        side_by_side([fail, fail, fail], CPU)
    assert torch.get_num_threads() == 2

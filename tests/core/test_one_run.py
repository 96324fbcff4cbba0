"""Runs of one process do not get between each other."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from qpruner_core import compress, parse_config
from qpruner_core.compute.choice import computing
from qpruner_core.errors import CancelledError
from qpruner_core.events import CancelToken
from qpruner_core.one_run import alone, alone_if_free


@pytest.fixture
def another_run() -> Iterator[threading.Event]:
    """A run of another thread, which ends when the event is set."""
    begun, end = threading.Event(), threading.Event()

    def run() -> None:
        with alone():
            begun.set()
            end.wait()

    thread = threading.Thread(target=run)
    thread.start()
    begun.wait()
    yield end
    end.set()
    thread.join()


def test_a_run_waits_for_that_of_another_thread_and_can_be_cancelled_meanwhile(
    another_run: threading.Event, tmp_path: Path
) -> None:
    config = parse_config(
        {"model": str(tmp_path / "none"), "dataset": "none.txt", "target": "bitsandbytes", "memory_budget": 1000}
    )
    cancel = CancelToken()
    cancel.cancel()
    with pytest.raises(CancelledError):  # and not that there is no such model
        compress(config, tmp_path / "out", cancel=cancel)


def test_what_computes_waits_until_the_run_of_another_thread_ends(another_run: threading.Event) -> None:
    ended: list[float] = []
    threading.Timer(0.3, lambda: (ended.append(time.monotonic()), another_run.set())).start()
    with computing("float32"):
        assert ended
        assert time.monotonic() >= ended[0]


def test_a_machine_is_not_measured_beside_a_run(another_run: threading.Event) -> None:
    with alone_if_free() as free:
        assert not free


def test_a_thread_may_begin_again_within_its_own_run() -> None:
    with alone(), alone(), alone_if_free() as free:
        assert free

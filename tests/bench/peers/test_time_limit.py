"""The limit to what a tool may take."""

from __future__ import annotations

import signal
import time
from contextlib import suppress

import pytest

from bench.peers.time_limit import time_limit


def _two_naps() -> None:
    with suppress(TimeoutError):
        time.sleep(30)
    time.sleep(30)


def test_what_takes_longer_is_ended_even_if_it_catches_the_error_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bench.peers.time_limit._AGAIN", 0.05)
    before = signal.getsignal(signal.SIGALRM)

    with pytest.raises(TimeoutError, match=r"not done after 0\.05 seconds"), time_limit(0.05):
        _two_naps()

    assert signal.getsignal(signal.SIGALRM) is before


def test_what_ends_in_time_is_not_disturbed_later() -> None:
    with time_limit(0.05):
        pass

    time.sleep(0.1)

"""Programs are run with what they take written down."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from bench.frontier.making import MakingError, run_metered

_BUSY = "import time\nwhile time.process_time() < {}: pass"


def test_the_cost_counts_the_processors_time_and_memory_of_what_a_program_starts(tmp_path: Path) -> None:
    inner = _BUSY.format(0.3)
    outer = f"import subprocess, sys; x = bytearray(10**8); subprocess.run([sys.executable, '-c', '''{inner}'''])"
    cost = run_metered([sys.executable, "-c", outer], tmp_path / "x.log")
    assert cost.cpu_seconds >= 0.3
    assert cost.peak_bytes >= 10**8


def test_a_program_that_takes_more_than_its_limit_is_ended_and_named_so(tmp_path: Path) -> None:
    with pytest.raises(MakingError, match="more than 1 CPU-seconds"):
        run_metered([sys.executable, "-c", _BUSY.format(60)], tmp_path / "x.log", 1)


def test_a_program_that_fails_is_reported_in_its_own_words(tmp_path: Path) -> None:
    with pytest.raises(MakingError, match="ValueError: no such scheme"):
        run_metered([sys.executable, "-c", "raise ValueError('no such scheme')"], tmp_path / "x.log")

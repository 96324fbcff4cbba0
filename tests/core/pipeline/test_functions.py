"""The commands as functions, on a finished run."""

from __future__ import annotations

from pathlib import Path

import pytest

import qpruner_core
from tests.core.pipeline.conftest import FinishedRun


def test_a_checkpoint_is_measured_and_continued_by_its_path_as_text(finished_run: FinishedRun, tmp_path: Path) -> None:
    text = tmp_path / "text.txt"
    text.write_text("the cat sat on the mat and looked at the dog. " * 200)
    measured = qpruner_core.evaluate_checkpoint(
        str(finished_run.output / "mixed"), str(text), sequence_length=64, max_tokens=512
    )
    assert measured["bytes"] == finished_run.report.measurement("final").bytes
    assert float(measured["perplexity"]) > 1
    one, again = (
        qpruner_core.generate(str(finished_run.output / "mixed"), "the cat", max_new_tokens=5) for _ in range(2)
    )
    assert one == again


def test_the_front_of_a_run_falls_as_bytes_rise(finished_run: FinishedRun) -> None:
    found = qpruner_core.front(f"{finished_run.output}.work")
    assert [trial.bytes for trial in found] == sorted(trial.bytes for trial in found)
    assert [trial.loss for trial in found] == sorted((trial.loss for trial in found), reverse=True)


def test_what_is_no_run_has_no_front(tmp_path: Path) -> None:
    with pytest.raises(qpruner_core.QPrunerError):
        qpruner_core.front(str(tmp_path))

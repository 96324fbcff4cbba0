"""The commands as functions, on a finished run."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

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


def test_an_estimate_needs_no_dataset_and_equals_that_of_the_run(finished_run: FinishedRun) -> None:
    settings = finished_run.config.model_dump(mode="json", exclude={"dataset"})
    found = qpruner_core.estimate(settings)
    assert found.feasible
    with_dataset = qpruner_core.estimate(finished_run.config)
    assert found.predicted_bytes == with_dataset.predicted_bytes
    assert found.prune_ratio == with_dataset.prune_ratio


def test_the_dataset_of_an_estimate_is_checked_if_it_is_given(finished_run: FinishedRun, tmp_path: Path) -> None:
    settings = finished_run.config.model_dump(mode="json") | {"dataset": str(tmp_path / "missing.txt")}
    with pytest.raises(qpruner_core.QPrunerError) as caught:
        qpruner_core.estimate(settings)
    assert caught.value.field == "dataset"


def test_a_checkpoint_is_loaded_onto_the_gpu_if_there_is_one(finished_run: FinishedRun) -> None:
    model, _ = qpruner_core.load_compressed(finished_run.output / "mixed")
    expected = "cuda" if torch.cuda.is_available() else "cpu"
    assert {parameter.device.type for parameter in model.parameters()} == {expected}
    model, _ = qpruner_core.load_compressed(finished_run.output / "mixed", device="cpu")
    assert {parameter.device.type for parameter in model.parameters()} == {"cpu"}


def test_what_is_no_run_has_no_front(tmp_path: Path) -> None:
    with pytest.raises(qpruner_core.QPrunerError):
        qpruner_core.front(str(tmp_path))

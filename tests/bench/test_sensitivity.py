"""The benchmark of the scores, from its arguments to its page, on a tiny model."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.sensitivity import main
from bench.sensitivity_report import SensitivityReport
from tests.tiny_model import build_tiny_llama

LAYERS = 7
SCORES = {"mutual information", "Fisher", "divergence, highest", "divergence, lowest", "divergence, mean"}


@pytest.fixture(scope="module")
def document(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("sensitivity")
    model = build_tiny_llama(directory / "llama", train_steps=100, num_hidden_layers=LAYERS, dtype="bfloat16")
    arguments = ["--model", model, "--work-dir", directory / "work", "--output", directory / "docs" / "scores.md"]
    amounts = ["--ratio", 0.1, "--sequences", 1, "--samples", 1, "--allocations", 2, "--trials", 3]
    assert main([str(argument) for argument in (*arguments, *amounts)]) == 0
    return directory / "docs" / "scores.md"


def test_every_score_and_effect_of_every_layer_is_measured_and_the_page_tells_them(document: Path) -> None:
    report = SensitivityReport.model_validate_json(document.with_suffix(".json").read_bytes())

    assert set(report.scores) == SCORES
    assert all(len(score.sensitivity) == LAYERS for score in report.scores.values())
    assert [set(effects) for effects in report.effects] == [{"nf4", "int8"}] * LAYERS
    harm = {name: sum(effects[name].divergence for effects in report.effects) for name in ("nf4", "int8")}
    assert harm["nf4"] > harm["int8"] > 0
    assert sorted(allocation.share for allocation in report.allocations) == [0.1, 0.1, 0.25, 0.25, 0.5, 0.5]
    page = document.read_text()
    assert all(f"| {name} |" in page for name in SCORES)
    assert "rounding: error_feedback" in page
    assert "times as fast as rounding to the nearest anew" in page


def test_each_way_is_timed_as_often_and_rounding_is_a_part_of_making_anew(document: Path) -> None:
    speed = SensitivityReport.model_validate_json(document.with_suffix(".json").read_bytes()).speed

    assert len(speed.trial) == len(speed.screening) == len(speed.anew) == 3
    assert all(0 < part < whole for part, whole in zip(speed.quantizing, speed.anew, strict=True))


def test_the_page_is_drawn_again_from_the_figures_alone(document: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = document.read_text()
    document.unlink()

    assert main(["--render", "--output", str(document)]) == 0

    assert document.read_text() == page
    assert "times as fast" in capsys.readouterr().out

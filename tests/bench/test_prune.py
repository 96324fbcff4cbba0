"""The benchmark itself, on a tiny model and tiny data."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bench import prune
from bench.pruner import Pruner
from bench.report import Report
from qpruner_core.prune.config import PruneConfig
from tests.tiny_model import build_tiny_llama, topic_paragraphs


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_tiny_llama(
        tmp_path_factory.mktemp("tiny") / "llama", train_steps=0, num_hidden_layers=11, intermediate_size=256
    )


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder of the benchmark's format."""
    directory = tmp_path_factory.mktemp("data")
    (directory / "text").mkdir()
    (directory / "eval").mkdir()
    paragraphs = topic_paragraphs()
    for name in ("wikitext2_valid_slice.txt", "ptb_valid.txt"):
        (directory / "text" / name).write_text("\n\n".join(paragraphs[:40]))
    for name in ("c4_demo.jsonl", "novels_lambada_passages.jsonl"):
        lines = [json.dumps({"text": paragraph}) for paragraph in paragraphs[40:]]
        (directory / "text" / name).write_text("\n".join(lines))
    for name in ("lambada", "piqa", "arc_easy", "hellaswag"):
        choices = ["statement"] if name == "lambada" else ["statement", "expression"]
        row = {"task": name, "id": "1", "context": "The assert", "choices": choices, "label": 0}
        (directory / "eval" / f"{name}.jsonl").write_text((json.dumps(row) + "\n") * 4)
    return directory


def _arguments(model: Path, tmp_path: Path, *more: str) -> list[str]:
    return [
        "--model", str(model), "--output", str(tmp_path / "out" / "prune.md"), "--work-dir", str(tmp_path / "work"),
        "--tokens", "512", "--examples", "2", "--sequences", "2", "--ratios", "0.2",
        "--criteria", PruneConfig().criterion, "--layouts", "same_ratio", "depth", "--no-unit-removal", *more,
    ]  # fmt: skip


def test_every_recipe_has_a_row_and_the_document_follows_from_the_json_alone(
    model: Path, data: Path, tmp_path: Path
) -> None:
    arguments = _arguments(model, tmp_path, "--data", str(data))
    assert prune.main(arguments) == 0
    document = tmp_path / "out" / "prune.md"
    written = document.read_text()
    report = Report.model_validate_json(document.with_suffix(".json").read_text())
    assert {row.recipe for row in report.rows} >= {"dense", "LLM-Pruner recipe", "depth", report.default}
    assert set(report.rows[0].measures) == {"WikiText-2", "PTB", "LAMBADA", "PIQA", "ARC-easy", "HellaSwag"}

    document.unlink()
    assert prune.main([*arguments, "--render"]) == 0

    assert document.read_text() == written


def test_without_data_it_measures_the_text_that_python_carries(model: Path, tmp_path: Path) -> None:
    assert prune.main(_arguments(model, tmp_path)) == 0

    report = Report.model_validate_json((tmp_path / "out" / "prune.json").read_text())
    assert set(report.rows[0].measures) == {"Python's help"}


def test_a_run_that_was_ended_goes_on_behind_its_last_row(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = _arguments(model, tmp_path)
    undisturbed, calls = Pruner.prune, []

    def interrupted(self: Pruner, *given: object) -> object:
        calls.append(given)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return undisturbed(self, *given)  # type: ignore[arg-type]

    monkeypatch.setattr(Pruner, "prune", interrupted)
    assert prune.main(arguments) == 130
    assert "goes on" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()

    assert prune.main(arguments) == 0

    rows = Report.model_validate_json((tmp_path / "out" / "prune.json").read_text()).rows
    assert len(calls) == 1 + len(rows) - 1  # each but the dense one once, and the one that was ended twice
    calls.clear()
    assert prune.main(arguments) == 0
    assert calls == []


def test_a_data_folder_without_its_texts_is_refused_by_name(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert prune.main(_arguments(model, tmp_path, "--data", str(tmp_path))) == 1

    assert "c4_demo.jsonl" in capsys.readouterr().err

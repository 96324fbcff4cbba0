"""The benchmark itself, on a tiny model and tiny data."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from bench.paper import __main__ as paper
from bench.paper import run
from bench.paper.methods import METHODS, OURS, OURS_FROM_TEXT, QPRUNER3
from bench.paper.rows import PaperReport, PaperRow
from bench.paper.search_comparison import SEARCHES
from tests.tiny_model import build_tiny_llama, topic_paragraphs

TASKS = ("lambada", "piqa", "arc_easy", "hellaswag", "boolq", "winogrande", "arc_challenge", "openbookqa")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_tiny_llama(
        tmp_path_factory.mktemp("tiny") / "llama", train_steps=20, num_hidden_layers=8, intermediate_size=256,
        dtype="bfloat16",
    )  # fmt: skip


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("data")
    (directory / "text").mkdir()
    (directory / "eval").mkdir()
    paragraphs = topic_paragraphs(100_000)
    for name in ("wikitext2_valid_slice.txt", "ptb_valid.txt"):
        (directory / "text" / name).write_text("\n\n".join(paragraphs[:30]))
    for name in ("c4_demo.jsonl", "novels_lambada_passages.jsonl"):
        (directory / "text" / name).write_text("\n".join(json.dumps({"text": text}) for text in paragraphs[30:]))
    for name in TASKS:
        choices = ["statement"] if name == "lambada" else ["statement", "expression"]
        row = {"task": name, "id": "1", "context": "The assert", "choices": choices, "label": 0}
        (directory / "eval" / f"{name}.jsonl").write_text((json.dumps(row) + "\n") * 2)
    return directory


def _arguments(model: Path, data: Path, tmp_path: Path) -> list[str]:
    return [
        "--model", str(model), "--data", str(data), "--output", str(tmp_path / "out" / "paper.md"),
        "--work-dir", str(tmp_path / "work"), "--tokens", "512", "--examples", "2", "--sequences", "2",
        "--length", "32", "--steps", "2", "--held-back", "2", "--seeds", "1", "--trials", "3", "--paper-trials", "2",
        "--recovery-steps", "1", "--compared-trials", "2", "--compared-steps", "1", "--ratios", "0.2",
        "--learning-rates", "4e-4", "--memory-steps", "1",
    ]  # fmt: skip


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_run_that_was_ended_goes_on_and_the_document_follows_from_the_json_alone(
    model: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = _arguments(model, data, tmp_path)
    undisturbed, calls = run.PaperRun._measured, []

    def interrupted(self: run.PaperRun, *given: object) -> PaperRow:
        calls.append(given)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return undisturbed(self, *given)  # type: ignore[arg-type]

    monkeypatch.setattr(run.PaperRun, "_measured", interrupted)
    assert paper.main(arguments) == 130
    assert "goes on" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()

    assert paper.main(arguments) == 0

    assert len(calls) == len(METHODS) + 1  # each once, and the one that was ended twice
    document = tmp_path / "out" / "paper.md"
    report = PaperReport.model_validate_json(document.with_suffix(".json").read_text())
    _check(report)
    assert not list((tmp_path / "work").glob("*/cell-*"))  # checkpoints are gone, rows are not

    written = document.read_text()
    document.unlink()
    assert paper.main([*arguments, "--render"]) == 0
    assert document.read_text() == written
    assert paper.main(arguments) == 0
    assert len(calls) == len(METHODS) + 1
    _check_workers(arguments, report, tmp_path)
    _check_elsewhere(arguments, document, tmp_path)
    assert len(calls) == len(METHODS) + 1


def _check_workers(arguments: list[str], report: PaperReport, tmp_path: Path) -> None:
    """Two processes, a seed each, measure of one method what one process did, started as a user starts them."""
    beside = tmp_path / "beside"
    shutil.copytree(tmp_path / "work", beside)
    for row in beside.glob("*/rows/PaperRow-qpruner3-*"):
        row.unlink()
    given = ["--workers", "2", "--seeds", "2", "--repeated", "QPruner3", "--search-ratio", "0.9"]
    there = ["--work-dir", str(beside), "--output", str(tmp_path / "beside.md")]
    told = subprocess.run(
        [sys.executable, "-m", "bench.paper", *arguments, *given, *there], check=True, capture_output=True, text=True,
        env=os.environ | {"OMP_NUM_THREADS": str(torch.get_num_threads())},
    ).stdout  # fmt: skip
    assert "2 of 2 cells done" in told
    assert sorted(re.findall(r"^QPruner3 at 20%, seed \d|^(?!QPruner3).* at 20%, seed", told, re.MULTILINE)) == [
        "QPruner3 at 20%, seed 0", "QPruner3 at 20%, seed 1",
    ]  # fmt: skip
    both = PaperReport.model_validate_json((tmp_path / "beside.json").read_text())
    assert both.workers == 2
    assert [row.seed for row in both.rows] == [0] * len(METHODS) + [1]
    for found, expected in zip(both.rows[:-1], report.rows, strict=True):
        assert (found.name, found.precisions, found.bytes) == (expected.name, expected.precisions, expected.bytes)
        assert (found.window_losses, found.validation) == (expected.window_losses, expected.validation)


def _check_elsewhere(arguments: list[str], document: Path, tmp_path: Path) -> None:
    """Where no row is, none is collected but what the document's figures hold, if they are to be taken over."""
    shutil.rmtree(tmp_path / "work")
    there = [*arguments, "--collect"]
    rows = PaperReport.model_validate_json(document.with_suffix(".json").read_text()).rows
    empty = tmp_path / "empty.md"
    assert paper.main([*there, "--output", str(empty)]) == 0
    assert "**Not measured yet:** LLM-Pruner at 20%, " in empty.read_text()
    assert "Not measured yet" not in document.read_text().partition("## Beside other tools")[0]
    assert paper.main([*there, "--take-over", "--steps", "3"]) == 1  # other amounts
    assert paper.main([*there, "--take-over"]) == 0
    assert PaperReport.model_validate_json(document.with_suffix(".json").read_text()).rows == rows


def _check(report: PaperReport) -> None:
    rows = {row.method: row for row in report.rows}
    assert list(rows) == [method.name for method in METHODS]
    assert set(report.dense.measures) == {
        "WikiText-2", "PTB", "LAMBADA", "PIQA", "ARC-easy", "HellaSwag", "BoolQ", "WinoGrande", "ARC-challenge",
        "OpenBookQA",
    }  # fmt: skip
    assert set(rows["LLM-Pruner"].precisions) == {"bf16"}
    assert set(rows["QPruner1"].precisions) == {"nf4"}
    assert rows["QPruner1"].bytes < rows["QPruner3"].bytes < rows["LLM-Pruner"].bytes < report.dense.bytes
    budget = rows[QPRUNER3.name].budget
    assert all(row.bytes <= row.budget == budget for row in report.rows if "QPruner1" != row.method != "LLM-Pruner")
    assert rows[OURS.name].precisions == rows[OURS_FROM_TEXT.name].precisions
    assert (rows[OURS.name].loss, rows[OURS_FROM_TEXT.name].loss) == ("distillation", "cross_entropy")
    assert rows[OURS.name].seconds["prune"] == rows[OURS_FROM_TEXT.name].seconds["prune"]  # one stage, taken over
    assert all(row.validation[0][0] == 0 and row.validation[-1][0] == 2 for row in report.rows)
    assert [search.name for search in report.searches] == [search.name for search in SEARCHES]
    ours, paper_search = report.searches[:2]
    assert (ours.objective, paper_search.objective) == ("divergence", "recovered")
    assert ours.scoring < ours.trials[0].second < ours.trials[-1].second < ours.seconds + 0.1
    peaks = {memory.method: memory for memory in report.memory}
    assert list(peaks) == list(rows)  # how much, a model of some kilobytes does not tell
    assert all(0 < search.quantizing < search.seconds for search in (ours, paper_search))

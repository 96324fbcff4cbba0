from __future__ import annotations

from pathlib import Path

from bench.plot import plot_perplexity
from bench.report import Limits, Report, this_machine
from bench.rows import Row
from bench.table import BASELINE, ROUNDED_DOWN, measures_cell, render, results_table
from qpruner_core.prune.config import PruneConfig


def _row(recipe: str, ratio: float, perplexity: float) -> Row:
    return Row(
        recipe=recipe, settings=None if recipe == "dense" else PruneConfig(), ratio=ratio, removed=ratio,
        parameters=round(135e6 - 106e6 * ratio), score_seconds=2.0, cut_seconds=0.1, peak_bytes=5_000_000,
        measures={
            "WikiText-2": {"perplexity": perplexity},
            "PIQA": {"acc": 0.64, "acc_stderr": 0.034, "acc_norm": 0.625, "acc_norm_stderr": 0.034},
        },
    )  # fmt: skip


ROWS = [
    _row("dense", 0.0, 23.5),
    _row(BASELINE, 0.2, 90.0),
    _row(ROUNDED_DOWN, 0.2, 80.0),
    _row("flap, global", 0.2, 60.0),
    _row("taylor_first, same_ratio", 0.2, 40.0),
]


def _report() -> Report:
    return Report(
        model="demo", default="flap, global", machine=this_machine(), rows=ROWS, correlations="| criterion |",
        limits=Limits(
            tokens=1024, examples=10, calibration_text="c4", calibration_sequences=8, calibration_length=64,
            baseline_text="novels",
        ),
    )  # fmt: skip


def test_the_document_says_by_how_much_the_best_and_the_default_beat_the_baseline() -> None:
    (line,) = [line for line in render(_report(), "prune.png").splitlines() if line.startswith("| 20% |")]

    assert line == "| 20% | 23.50 | 90.00 | 80.00 | taylor_first, same_ratio | 40.00 | 50% | 60.00 | 25% |"


def test_the_document_states_its_limits_machine_and_picture() -> None:
    document = render(_report(), "prune.png")

    assert "the first 1024 tokens" in document
    assert "the first 10 examples" in document
    assert this_machine().versions in document
    assert "](prune.png)" in document
    assert "| criterion |" in document


def test_rows_of_a_ratio_stand_below_the_dense_model_the_best_first() -> None:
    document = render(_report(), "prune.png").split("## 20% of")[1]

    lines = [line.split("|")[1].strip() for line in document.splitlines() if line.startswith("| ")]
    assert lines[:6] == ["recipe", "dense", "taylor_first, same_ratio", "flap, global", ROUNDED_DOWN, BASELINE]


def test_every_line_of_a_table_has_as_many_cells() -> None:
    lines = results_table(ROWS).splitlines()

    assert len({line.count("|") for line in lines}) == 1
    assert len(lines) == len(ROWS) + 2


def test_a_cell_says_accuracy_and_error_or_perplexity() -> None:
    assert measures_cell({}) == "–"
    assert measures_cell({"perplexity": 23.504}) == "23.50"
    assert measures_cell({"perplexity": 12345.6}) == "12,346"
    assert measures_cell({"acc": 0.295, "acc_stderr": 0.032, "perplexity": 69.1}) == ".295 ±.032 (69.10)"
    assert measures_cell({"acc": 1.0, "acc_stderr": 0.0, "acc_norm": 0.5}) == "1.000 / .500 ±.000"


def test_a_report_read_back_gives_the_same_document() -> None:
    again = Report.model_validate_json(_report().model_dump_json())

    assert render(again, "prune.png") == render(_report(), "prune.png")


def test_the_picture_is_a_small_png(tmp_path: Path) -> None:
    plot_perplexity(ROWS, "WikiText-2", (BASELINE,), tmp_path / "prune.png")

    content = (tmp_path / "prune.png").read_bytes()
    assert content.startswith(b"\x89PNG")
    assert len(content) < 200_000

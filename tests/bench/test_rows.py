from __future__ import annotations

from pathlib import Path

from bench.rows import Row, RowFile
from qpruner_core.prune.config import PruneConfig


def row(recipe: str = "wanda, global", ratio: float = 0.2, perplexity: float = 30.0) -> Row:
    return Row(
        recipe=recipe, settings=PruneConfig(criterion="wanda"), ratio=ratio, removed=ratio, parameters=100,
        score_seconds=1.0, cut_seconds=0.5, peak_bytes=10, measures={"WikiText-2": {"perplexity": perplexity}},
    )  # fmt: skip


def test_a_row_is_found_again_by_a_later_run(tmp_path: Path) -> None:
    RowFile(tmp_path / "work" / "rows.jsonl").append(row())

    later = RowFile(tmp_path / "work" / "rows.jsonl")

    assert later.find("wanda, global", PruneConfig(criterion="wanda"), 0.2) == row()
    assert later.find("wanda, global", PruneConfig(criterion="wanda"), 0.5) is None


def test_a_row_of_other_settings_is_measured_again(tmp_path: Path) -> None:
    file = RowFile(tmp_path / "rows.jsonl")
    file.append(row())

    assert file.find("wanda, global", PruneConfig(criterion="wanda", protect_first=9), 0.2) is None


def test_a_line_cut_off_by_a_kill_costs_only_its_own_row(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    RowFile(path).append(row("first"))
    with path.open("a") as stream:
        stream.write(row("second").model_dump_json()[:40])

    RowFile(path).append(row("third"))

    assert [found.recipe for found in RowFile(path).rows] == ["first", "third"]

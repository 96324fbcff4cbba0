"""Rows outlive the run that measured them."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel

from bench.study.rows import RowFolder


class Row(BaseModel):
    settings: str
    value: float


def test_a_row_is_found_again_by_a_later_run_with_the_same_settings_alone(tmp_path: Path) -> None:
    RowFolder(tmp_path / "rows").keep("ours at Q4_K_M", Row(settings="defaults", value=1.5))

    later = RowFolder(tmp_path / "rows")

    assert later.find(Row, "ours at Q4_K_M", settings="defaults") == Row(settings="defaults", value=1.5)
    assert later.find(Row, "ours at Q4_K_M", settings="others") is None
    assert later.find(Row, "ours at Q2_K") is None


def test_a_row_that_was_cut_off_is_measured_again(tmp_path: Path) -> None:
    rows = RowFolder(tmp_path)
    rows.keep("ours", Row(settings="", value=1.5))
    (file,) = tmp_path.iterdir()
    file.write_text(file.read_text()[:10])

    assert rows.find(Row, "ours") is None


def test_a_row_measured_elsewhere_does_not_take_the_place_of_one_measured_here(tmp_path: Path) -> None:
    rows = RowFolder(tmp_path)
    rows.keep("ours", Row(settings="", value=1.5))
    rows.take_over("ours", Row(settings="", value=9.0))
    rows.take_over("theirs", Row(settings="", value=9.0))

    assert [row.value for name in ("ours", "theirs") if (row := rows.find(Row, name))] == [1.5, 9.0]

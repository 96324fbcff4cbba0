"""How a study ends: what is published, and what the exit status says."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import BaseModel

from bench.study.command import Document, write_page


class Figures(BaseModel):
    value: int


DOCUMENT = Document("# Values", Figures, lambda figures, path: f"# Values\n\n{figures.value}\n")


def _ended() -> Figures:
    raise KeyboardInterrupt


def test_a_document_follows_from_its_figures_alone(tmp_path: Path) -> None:
    page = tmp_path / "docs" / "values.md"
    assert DOCUMENT.publish(page, lambda: Figures(value=7)) == 0
    written = page.read_text()
    page.unlink()

    assert DOCUMENT.publish(page, None) == 0
    assert page.read_text() == written == "# Values\n\n7\n"


def test_a_run_that_is_ended_says_so_and_leaves_no_document(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert DOCUMENT.publish(tmp_path / "values.md", _ended) == 130
    assert "goes on" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_without_figures_there_is_nothing_to_draw(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert DOCUMENT.publish(tmp_path / "values.md", None) == 1
    assert "values.json does not exist" in capsys.readouterr().err


def test_the_page_of_each_part_is_on_disk_before_the_next_part_is_measured(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "page.md"
    seen = []

    def pages() -> Iterator[str]:
        yield "# Parts\n1\n"
        seen.append(page.read_text())
        yield "# Parts\n1 2\n"

    assert write_page(argparse.Namespace(markdown=page), "# Parts", pages) == 0
    assert seen == ["# Parts\n1\n"]
    assert page.read_text() == "# Parts\n1 2\n" == capsys.readouterr().out.removesuffix("\n")

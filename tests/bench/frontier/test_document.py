"""The page and its pictures are drawn from the JSON alone."""

from __future__ import annotations

from pathlib import Path

from bench.frontier import __main__ as frontier
from tests.bench.frontier.reports import report


def test_the_page_and_pictures_are_drawn_again_by_one_command(tmp_path: Path) -> None:
    page = tmp_path / "frontier.md"
    page.with_suffix(".json").write_text(report(share=0.5, times=6.0).model_dump_json())
    assert frontier.main(["--redraw", "--output", str(page)]) == 0
    text = page.read_text()
    assert "0.50 ± 0.00" in text
    assert "**no**" in text, "the seconds"
    assert "no memory" in text, "the rival that did not run"
    assert "the least bytes: 90 B" in text
    pictures = sorted(file.name for file in tmp_path.glob("*.png"))
    assert pictures == ["frontier_kl.png", "frontier_perplexity.png", "frontier_pruning.png"]
    assert all(f"({name})" in text for name in pictures)


def test_without_figures_the_command_says_what_to_run_first(tmp_path: Path, capsys: object) -> None:
    assert frontier.main(["--redraw", "--output", str(tmp_path / "frontier.md")]) == 1


def test_without_llama_quantize_nothing_is_measured(tmp_path: Path) -> None:
    assert frontier.main(["--llama-cpp", str(tmp_path), "--output", str(tmp_path / "frontier.md")]) == 1

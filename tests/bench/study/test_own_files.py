"""No benchmark writes over a file of somebody else's, and each finds out first whether it can write."""

from __future__ import annotations

import importlib
import json
from pathlib import Path

import pytest
from pydantic import BaseModel

from bench.study.own_files import require_own_document, require_own_page
from qpruner_core.errors import InvalidConfigError, OutputInvalidError

BENCHMARKS = Path(__file__).parents[3] / "docs" / "benchmarks"
TITLE = "# Mine"


class Figures(BaseModel):
    rows: list[int]


@pytest.mark.parametrize("name", ["paper", "frontier"])
def test_a_benchmark_takes_its_own_document_and_no_other(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    module = importlib.import_module(f"bench.{name}.__main__")
    readme = tmp_path / "README.md"
    readme.write_text(f"{TITLE}\n")
    for output in (readme, tmp_path / "notes.json", readme / "below.md", tmp_path):
        assert module.main(["--output", str(output)]) == 1
        assert "output" in capsys.readouterr().err
    assert readme.read_text() == f"{TITLE}\n"
    assert [path.name for path in tmp_path.iterdir()] == ["README.md"]
    require_own_document(BENCHMARKS / f"{name}.md", module.DOCUMENT.title, module.DOCUMENT.report)


@pytest.mark.parametrize("name", ["targets", "recovery", "gemma3", "stage_times"])
def test_a_benchmark_takes_its_own_page_and_no_other(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    module = importlib.import_module(f"bench.{name}")
    readme = tmp_path / "README.md"
    readme.write_text(f"{TITLE}\n")
    needed = ["--llama-cpp", str(tmp_path)] if name == "targets" else []
    assert module.main([*needed, "--markdown", str(readme)]) == 1
    assert "markdown" in capsys.readouterr().err
    assert readme.read_text() == f"{TITLE}\n"
    published = BENCHMARKS / f"{name}.md"
    require_own_page(published, module.TITLE, "markdown")
    assert published.is_file() or name == "recovery"  # not measured yet


def test_figures_that_are_somebody_elses_are_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.json").write_text(json.dumps({"mine": True}))
    with pytest.raises(OutputInvalidError):
        require_own_document(tmp_path / "notes.md", TITLE, Figures)
    with pytest.raises(InvalidConfigError):
        require_own_document(tmp_path / "notes.json", TITLE, Figures)
    (tmp_path / "link.md").symlink_to(tmp_path / "notes.json")
    with pytest.raises(OutputInvalidError):
        require_own_page(tmp_path / "link.md", TITLE)

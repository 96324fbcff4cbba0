"""No benchmark writes over a file of somebody else's, and each finds out first whether it can write."""

from __future__ import annotations

import importlib
import json
from pathlib import Path

import pytest

from bench import memory, own_files
from bench.report import Report
from bench.table import TITLE
from qpruner_core.errors import InvalidConfigError, OutputInvalidError

DOCUMENTED = ("prune", "information", "sensitivity", "peers.__main__", "paper.__main__")
OWN = {
    "prune": "prune", "information": "information", "sensitivity": "sensitivity", "peers.__main__": "peers",
    "paper.__main__": "paper",
}  # fmt: skip
BENCHMARKS = Path(__file__).parents[2] / "docs" / "benchmarks"


@pytest.mark.parametrize("name", DOCUMENTED)
def test_a_benchmark_takes_its_own_document_and_no_other(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    module = importlib.import_module(f"bench.{name}")
    readme = tmp_path / "README.md"
    readme.write_text("# Mine\n")
    for output in (readme, tmp_path / "notes.json", readme / "below.md", tmp_path):
        assert module.main(["--output", str(output)]) == 1
        assert "output" in capsys.readouterr().err
    assert readme.read_text() == "# Mine\n"
    assert [path.name for path in tmp_path.iterdir()] == ["README.md"]
    figures = "Report" if name in ("prune", "information") else {"sensitivity": "SensitivityReport"}.get(name)
    figures = figures or ("PeersReport" if "peers" in name else "PaperReport")
    document = BENCHMARKS / f"{OWN[name]}.md"
    own_files.require_own_document(document, module.TITLE, getattr(module, figures))


def test_figures_that_are_somebody_elses_are_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.json").write_text(json.dumps({"mine": True}))
    with pytest.raises(OutputInvalidError):
        own_files.require_own_document(tmp_path / "notes.md", TITLE, Report)
    with pytest.raises(OutputInvalidError):
        own_files.require_own_figures(tmp_path / "notes.json", memory.Report, "json")
    with pytest.raises(InvalidConfigError):
        own_files.require_own_document(tmp_path / "notes.json", TITLE, Report)
    (tmp_path / "link.md").symlink_to(tmp_path / "notes.json")
    with pytest.raises(OutputInvalidError):
        own_files.require_own_page(tmp_path / "link.md", TITLE)


@pytest.mark.parametrize("name", ["memory", "cpu_recovery", "gpu_recovery_report"])
def test_the_pages_that_there_are_begin_as_they_are_told_apart(name: str) -> None:
    module = importlib.import_module(f"bench.{name}")
    page = BENCHMARKS / f"{name.removesuffix('_report')}.md"
    if page.exists():
        own_files.require_own_page(page, module.TITLE, "markdown")
    assert module.TITLE.startswith("# ")

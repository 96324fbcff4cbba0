"""The notebook of the documentation runs from its first cell to its last."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from tests.core.pipeline.conftest import QUICK

NOTEBOOK = Path(__file__).parents[3] / "docs" / "compress.ipynb"


def cells() -> list[tuple[str, list[str]]]:
    """Source and tags of every code cell."""
    notebook = json.loads(NOTEBOOK.read_text(encoding="utf-8"))
    return [
        ("".join(cell["source"]), cell["metadata"].get("tags", []))
        for cell in notebook["cells"]
        if cell["cell_type"] == "code"
    ]


def test_the_notebook_runs_on_a_tiny_model(tiny_llama: Path, text_dataset: Path, tmp_path: Path) -> None:
    settings = QUICK | {"memory_budget": 260_000}
    parameters = (
        f"MODEL, DATASET, OUTPUT, PROMPT = {str(tiny_llama)!r}, {str(text_dataset)!r}, 'out', 'the cat'\n"
        f"SETTINGS = {settings!r}"
    )
    script = "\n".join(parameters if "parameters" in tags else source for source, tags in cells())
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "feasible: True" in done.stdout
    assert "the cat" in done.stdout.splitlines()[-1]


def test_the_parameters_name_what_the_other_cells_use() -> None:
    (parameters,) = [source for source, tags in cells() if "parameters" in tags]
    for name in ("MODEL", "DATASET", "OUTPUT", "PROMPT", "SETTINGS"):
        assert f"{name} = " in parameters


def test_the_notebook_is_stored_without_outputs() -> None:
    notebook = json.loads(NOTEBOOK.read_text(encoding="utf-8"))
    code = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in code)

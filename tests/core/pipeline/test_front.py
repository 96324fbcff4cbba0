"""The front and another budget, from the directory that a real run left."""

from __future__ import annotations

import json
from typing import Any

from typer.testing import CliRunner

from qpruner_core.cli import app
from tests.core.pipeline.conftest import FinishedRun


def front(run: FinishedRun, budget: int) -> dict[str, Any]:
    work = run.output.with_name(run.output.name + ".work")
    result = CliRunner().invoke(app, ["front", "--work-dir", str(work), "--budget", str(budget), "--json"])
    assert result.exit_code == 0, result.output
    shown: dict[str, Any] = json.loads(result.stdout)
    return shown


def test_the_budget_of_the_run_gets_no_worse_than_its_allocation_and_a_tighter_one_fewer_bytes(
    finished_run: FinishedRun,
) -> None:
    shown = front(finished_run, finished_run.config.memory_budget)
    assert shown["groups"] == finished_run.report.groups
    assert shown["answer"]["bytes"] <= finished_run.config.memory_budget
    found = [trial for trial in shown["front"] if trial["precisions"] == finished_run.report.precisions]
    assert found[0]["bytes"] == finished_run.report.predicted_bytes
    assert shown["answer"]["loss"] <= found[0]["loss"]
    tighter = front(finished_run, 275_000)["answer"]
    assert tighter["bytes"] <= 275_000
    assert tighter["loss"] >= shown["answer"]["loss"]

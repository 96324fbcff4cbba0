"""The dashboard, the guide and the service name the same metrics."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from app.main import create_app
from app.settings import Settings
from tests.known_store import migrate

ROOT = Path(__file__).parents[1]
NAME = re.compile(r"\bqpruner_[a-z_]+\b")


@pytest.fixture
def metrics(tmp_path: Path) -> dict[str, str]:
    """Names and types of what the service exports, as Prometheus reads them."""
    settings = Settings(_env_file=None, data_dir=tmp_path, signing_key="k" * 40)
    migrate(settings)
    figures = TestClient(create_app(settings), base_url="http://127.0.0.1").get("/metrics").text
    found = dict(re.findall(r"^# TYPE (qpruner_\S+) (\S+)$", figures, re.MULTILINE))
    # of each counter and histogram, the client library also exports when it was made
    return {name: kind for name, kind in found.items() if not name.endswith("_created")}


def test_the_dashboard_shows_every_metric_and_no_other(metrics: dict[str, str]) -> None:
    board = json.loads((ROOT / "deploy/grafana/qpruner.json").read_text())
    expressions = [target["expr"] for panel in board["panels"] for target in panel["targets"]]
    series = {name for name, kind in metrics.items() if kind != "histogram"}
    series |= {f"{name}_bucket" for name, kind in metrics.items() if kind == "histogram"}
    assert set(NAME.findall(" ".join(expressions))) == series


def test_the_dashboard_has_panels_side_by_side_with_numbers_of_their_own() -> None:
    board = json.loads((ROOT / "deploy/grafana/qpruner.json").read_text())
    places = [(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in board["panels"]]
    assert len(set(places)) == len({panel["id"] for panel in board["panels"]}) == len(board["panels"])
    assert all(panel["gridPos"]["x"] + panel["gridPos"]["w"] <= 24 for panel in board["panels"])


def test_the_guide_explains_every_metric_and_no_other(metrics: dict[str, str]) -> None:
    section = (ROOT / "docs/operate.md").read_text().partition("## Metrics")[2].partition("\n## ")[0]
    rows = " ".join(line.split("|")[1] for line in section.splitlines() if line.startswith("| `"))
    assert set(NAME.findall(rows)) == metrics.keys()

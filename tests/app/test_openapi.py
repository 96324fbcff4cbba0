"""The description of the API, for those who generate clients from it."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import qpruner_client.models
from app.main import create_app
from app.settings import Settings

PREFIX = "#/components/schemas/"
CACHED_REDOCLY = Path.home() / ".cache" / "qpruner-tests" / "redocly" / "node_modules" / ".bin" / "redocly"


@pytest.fixture(scope="module")
def description(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return create_app(Settings(data_dir=tmp_path_factory.mktemp("data"), _env_file=None)).openapi()


@pytest.fixture(scope="module")
def file(description: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("description") / "openapi.json"
    path.write_text(json.dumps(description))
    return path


def operations(description: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for path, methods in description["paths"].items():
        for method, operation in methods.items():
            yield f"{method.upper()} {path}", operation


def test_every_field_and_parameter_is_described(description: dict[str, Any]) -> None:
    for name, schema in description["components"]["schemas"].items():
        assert schema.get("description"), name
        bare = [field for field, described in schema.get("properties", {}).items() if not described.get("description")]
        assert bare == [], f"{name}: describe these in their model, or in app/described_fields.py"
    for name, operation in operations(description):
        assert [one["name"] for one in operation.get("parameters", ()) if not one.get("description")] == [], name


def test_every_successful_json_response_has_an_example_of_its_type(description: dict[str, Any]) -> None:
    checked = 0
    for name, operation in operations(description):
        for status, response in operation["responses"].items():
            body = response.get("content", {}).get("application/json")
            if not status.startswith("2") or body is None or "$ref" not in body["schema"]:
                continue
            kind = getattr(qpruner_client.models, body["schema"]["$ref"].removeprefix(PREFIX))
            kind.model_validate(body["example"])
            checked += 1
        assert operation["responses"], name
    assert checked > 15


def test_it_keeps_the_rules_that_tools_demand(description: dict[str, Any]) -> None:
    """The errors and warnings of Redocly's recommended rules that a description made by FastAPI may run into."""
    assert description["info"]["license"]["identifier"]
    assert [server["url"] for server in description["servers"]] == ["/"]
    components = description["components"]
    names = [name for kind in components.values() for name in kind]
    assert [name for name in names if not re.fullmatch(r"[A-Za-z0-9._-]+", name)] == []
    schemes = components["securitySchemes"].keys()
    identifiers = [operation["operationId"] for _, operation in operations(description)]
    assert len(identifiers) == len(set(identifiers))
    for name, operation in operations(description):
        assert operation["summary"], name
        assert all(scheme in schemes for one in operation["security"] for scheme in one), name
        kinds = {status[0] for status in operation["responses"]}
        assert {"2", "4"} <= kinds, name
        assert all(response["description"] for response in operation["responses"].values()), name
        path = name.partition(" ")[2]
        declared = {one["name"] for one in operation.get("parameters", ()) if one["in"] == "path"}
        assert declared == set(re.findall(r"{(\w+)}", path)), name


def test_redocly_finds_nothing(file: Path) -> None:
    named = os.environ.get("QPRUNER_TEST_REDOCLY") or shutil.which("redocly")
    redocly = named or (str(CACHED_REDOCLY) if CACHED_REDOCLY.is_file() else None)
    if redocly is None:
        pytest.skip("Redocly's lint is not installed: npm install @redocly/cli, and name it by QPRUNER_TEST_REDOCLY")
    environment = {**os.environ, "REDOCLY_TELEMETRY": "off", "REDOCLY_SUPPRESS_UPDATE_NOTICE": "true"}
    command = [redocly, "lint", str(file), "--extends", "recommended", "--format", "json"]
    answer = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=120)
    found = json.loads(answer.stdout[answer.stdout.index("{") :])
    assert (found["totals"]["errors"], found["totals"]["warnings"]) == (0, 0), found["problems"]


def test_another_generator_makes_a_client_from_it_that_can_be_imported(file: Path, tmp_path: Path) -> None:
    pytest.importorskip("openapi_python_client")
    command = [sys.executable, "-m", "openapi_python_client", "generate", "--path", str(file), "--meta", "none",
               "--output-path", str(tmp_path / "generated")]  # fmt: skip
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    made = subprocess.run(command, capture_output=True, text=True, timeout=120, env=environment)
    assert made.returncode == 0, made.stdout + made.stderr
    assert "Warning" not in made.stdout, made.stdout  # a schema that it could not understand is left out
    script = (
        "from generated import AuthenticatedClient\n"
        "from generated.api.jobs import submit_job, list_events, get_logs\n"
        "from generated.models import JobRequest, Job, StageStartedEvent\n"
        "body = JobRequest.from_dict({'model': 'm', 'dataset': 'd', 'memory_budget': '1MB', 'prune': {'ratio': 0.2}})\n"
        "print(body.to_dict()['prune'])\n"
    )
    answer = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert (answer.returncode, answer.stdout.strip()) == (0, "{'ratio': 0.2}"), answer.stderr

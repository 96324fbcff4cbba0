"""``/docs`` and ``/openapi.json``."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from app.jobs.schemas import EstimateRequest, JobRequest
from app.main import create_app
from app.settings import Settings
from tests.app.conftest import BASE_URL


@pytest.fixture
def client(tmp_path: Path) -> TestClient:
    """A client of an application whose database was never made."""
    return TestClient(create_app(Settings(data_dir=tmp_path)), base_url=BASE_URL)


@pytest.fixture
def schema(client: TestClient) -> dict[str, Any]:
    """The description of the API."""
    document: dict[str, Any] = client.get("/openapi.json").json()
    return document


def operations(schema: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    return [
        (f"{method.upper()} {path}", operation)
        for path, methods in schema["paths"].items()
        for method, operation in methods.items()
    ]


def test_the_documentation_page_asks_no_other_host_for_anything(client: TestClient) -> None:
    page = client.get("/docs").text
    addresses = re.findall(r"""(?:src|href|url)\s*[=:]\s*["']([^"']+)""", page)
    assert any(address.endswith("swagger-ui-bundle.js") for address in addresses)
    for address in addresses:
        assert address.startswith("/"), address
        assert not address.startswith("//")
        assert client.get(address).status_code == 200
    assert "//" not in re.sub(r"\s//.*", "", page)
    assert client.get("/redoc").status_code == 404


def test_every_operation_says_what_it_does_and_how_it_fails(schema: dict[str, Any]) -> None:
    names = [operation["operationId"] for _, operation in operations(schema)]
    assert len(names) == len(set(names)) > 15
    for name, operation in operations(schema):
        assert operation["summary"], name
        assert operation["description"], name
        assert operation["tags"], name
        for status, answer in operation["responses"].items():
            if status.startswith(("4", "5")) and "content" in answer and name != "GET /readyz":
                assert list(answer["content"]) == ["application/problem+json"], (name, status)
    jobs = [operation for name, operation in operations(schema) if " /jobs" in name]
    assert len(jobs) >= 14
    for operation in jobs:
        assert operation["security"]
        assert {"401", "403"} <= set(operation["responses"])


def test_an_error_of_an_endpoint_does_not_hide_that_of_a_key_without_the_scope(schema: dict[str, Any]) -> None:
    refusing = [(name, operation) for name, operation in operations(schema) if operation["security"]]
    assert len(refusing) > 30
    for name, operation in refusing:
        assert "`unauthenticated`" in operation["responses"]["401"]["description"], name
        assert "`forbidden`" in operation["responses"]["403"]["description"], name


def test_every_reference_of_the_description_leads_somewhere(schema: dict[str, Any]) -> None:
    names = set(re.findall(r"#/components/schemas/(\w+)", str(schema)))
    assert names == set(schema["components"]["schemas"])


def test_the_example_body_is_a_valid_request(schema: dict[str, Any]) -> None:
    (example,) = schema["components"]["schemas"]["JobRequest"]["examples"]
    of_job, of_estimate = (
        next(iter(schema["paths"][path]["post"]["requestBody"]["content"]["application/json"]["examples"].values()))
        for path in ("/jobs", "/jobs/estimate")
    )
    assert of_job["value"] == example
    assert "POST /datasets" in of_job["description"]
    assert EstimateRequest.model_validate(of_estimate["value"]).dataset == ""
    assert "POST_DATASETS" in example["dataset"]  # which no upload is called: it says where the id comes from
    assert example["model"] == "demo:smollm2-135m-instruct"
    assert JobRequest.model_validate(example).memory_budget == 100_000_000

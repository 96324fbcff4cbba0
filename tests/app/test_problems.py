"""Whatever goes wrong is told in one shape, and tells no secrets."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from pydantic import SecretStr

from app.main import create_app
from app.problems import Problem, from_core_error
from app.settings import Settings
from qpruner_core import errors
from tests.app.conftest import BASE_URL
from tests.known_store import migrate
from tests.server_processes import free_port

MEMBERS = {
    "type", "title", "status", "detail", "code", "field", "remedy", "instance", "request_id", "errors",
    "more_errors",
}  # fmt: skip
JSON = {"Content-Type": "application/json"}
SECRET = SecretStr("a secret for tests, long enough to be one")


@pytest.fixture
def plain_settings(tmp_path: Path) -> Settings:
    """Settings of an embedded service whose database is migrated."""
    settings = Settings(data_dir=tmp_path / "data", max_body_bytes=1000)
    migrate(settings)
    return settings


@pytest.fixture
def plain_app(plain_settings: Settings) -> Iterator[FastAPI]:
    """The application on SQLite."""
    app = create_app(plain_settings)
    yield app
    app.state.broker.close()
    app.state.engine.dispose()


@pytest.fixture
def plain_client(plain_app: FastAPI) -> TestClient:
    """A client of it."""
    return TestClient(plain_app, base_url=BASE_URL)


@pytest.mark.parametrize(
    ("method", "path", "content", "headers", "status", "code"),
    [
        ("GET", "/nothing", b"", {}, 404, "not_found"),
        ("PUT", "/jobs", b"", {}, 405, "method_not_allowed"),
        ("POST", "/jobs", b"{", JSON, 400, "invalid_json"),
        ("POST", "/jobs", b"\xff\xfe", JSON, 400, "invalid_json"),
        ("POST", "/jobs", b"[" * 900, JSON, 400, "invalid_json"),
        ("POST", "/jobs", b"[1]", JSON, 422, "invalid_config"),
        ("POST", "/jobs", b"", JSON, 422, "invalid_config"),
        ("POST", "/jobs", b"model=a", {"Content-Type": "text/plain"}, 415, "unsupported_media_type"),
        ("POST", "/jobs", b'{"model":"' + b"x" * 1000 + b'"}', JSON, 413, "body_too_large"),
        ("GET", "/jobs/nothing", b"", {}, 404, "job_not_found"),
        ("GET", "/jobs/job_00000000000000000000000000/events?after=-1", b"", {}, 422, "invalid_request"),
        ("GET", f"/jobs/job_00000000000000000000000000/events?after={2**63}", b"", {}, 422, "invalid_request"),
    ],
)
def test_a_request_at_fault_is_answered_with_a_whole_problem_document(
    plain_client: TestClient, method: str, path: str, content: bytes, headers: dict[str, str], status: int, code: str
) -> None:
    answer = plain_client.request(method, path, content=content, headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (status, code), answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert set(problem) == MEMBERS
    assert problem["type"] == f"urn:qpruner:problem:{code}"
    assert problem["request_id"] == answer.headers["x-request-id"]
    assert problem["instance"] == path.partition("?")[0]
    assert problem["remedy"]


def test_every_fault_of_a_request_is_listed(plain_client: TestClient) -> None:
    problem = plain_client.post("/jobs", json={"model": "x", "prune": {"ratio": 2}, "colour": "red"}).json()
    assert [fault["field"] for fault in problem["errors"]] == ["dataset", "memory_budget", "prune.ratio", "colour"]


def test_a_body_without_a_length_is_cut_off_while_it_is_read(plain_client: TestClient) -> None:
    sent = 0

    def body() -> Iterator[bytes]:
        nonlocal sent
        for _ in range(100):
            sent += 1
            yield b" " * 200

    answer = plain_client.post("/jobs", content=body(), headers=JSON)
    assert (answer.status_code, answer.json()["code"]) == (413, "body_too_large")
    assert plain_client.post("/jobs", content=iter([b"{", b"}"]), headers=JSON).status_code == 422


def test_a_fault_of_the_service_is_logged_and_not_told(
    plain_app: FastAPI, plain_client: TestClient, caplog: pytest.LogCaptureFixture
) -> None:
    @plain_app.get("/fault")
    def fault() -> None:
        raise RuntimeError("the password is 1234")

    answer = plain_client.get("/fault", headers={"X-Request-Id": "mine-1"})
    assert (answer.status_code, answer.json()["code"]) == (500, "internal")
    assert "1234" not in answer.text
    assert answer.headers["x-request-id"] == answer.json()["request_id"] == "mine-1"
    (record,) = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert "1234" in caplog.text
    assert "mine-1" in record.getMessage()


@pytest.mark.parametrize("given", ["a b", "x" * 65, 'a"b', "a\tb"])
def test_a_request_id_that_could_forge_a_line_of_the_log_is_replaced(plain_client: TestClient, given: str) -> None:
    assert plain_client.get("/healthz", headers={"X-Request-Id": given}).headers["x-request-id"].startswith("req_")


def test_a_database_that_is_away_is_503_and_worth_another_try(tmp_path: Path) -> None:
    url = f"postgresql://qpruner:secret@127.0.0.1:{free_port()}/qpruner"
    app = create_app(Settings(data_dir=tmp_path / "data", database_url=url, signing_key=SECRET))
    client = TestClient(app, base_url=BASE_URL)
    for answer in (client.get("/jobs"), client.post("/jobs/job_00000000000000000000000000/cancel")):
        assert (answer.status_code, answer.json()["code"]) == (503, "database_unavailable")
        assert int(answer.headers["retry-after"]) > 0
        assert "secret" not in answer.text
        assert "127.0.0.1" not in answer.text
    assert client.get("/healthz").status_code == 200
    assert "qpruner_database_up 0.0" in client.get("/metrics").text


def test_a_database_that_was_never_migrated_is_503(empty_database_url: str, tmp_path: Path) -> None:
    app = create_app(Settings(data_dir=tmp_path / "data", database_url=empty_database_url, signing_key=SECRET))
    client = TestClient(app, base_url=BASE_URL)
    assert client.get("/jobs").json()["code"] == "database_unavailable"
    readiness = client.get("/readyz")
    assert readiness.status_code == 503
    assert "qpruner migrate" in readiness.json()["parts"]["database"]["detail"]
    app.state.engine.dispose()


def all_subclasses(kind: type[errors.QPrunerError]) -> Iterator[type[errors.QPrunerError]]:
    for subclass in kind.__subclasses__():
        yield subclass
        yield from all_subclasses(subclass)


def test_every_error_of_the_core_keeps_its_code_and_a_mistake_of_the_user_is_4xx() -> None:
    kinds = [kind for kind in all_subclasses(errors.QPrunerError) if kind.__module__ == errors.__name__]
    assert len(kinds) > 15
    for kind in kinds:
        if kind is errors.BudgetInfeasibleError:
            problem = from_core_error(errors.BudgetInfeasibleError("Too small.", smallest_feasible_bytes=7))
            assert problem.extra == {"smallest_feasible_bytes": 7}
        else:
            problem = from_core_error(kind("It is wrong.", field="model", remedy="Mend it."))
            assert (problem.field, problem.remedy) == ("model", "Mend it.")
        assert isinstance(problem, Problem)
        assert problem.code == kind.code
        assert (problem.status_code < 500) is issubclass(kind, errors.UserError), kind
    assert from_core_error(errors.HubUnavailableError("Away.")).headers == {"Retry-After": "30"}
    assert from_core_error(errors.DiskFullError("Full.")).status_code == 507

"""What a request says of the service, of times and of names is not believed any further than it must be."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
from fastapi.testclient import TestClient
from sqlalchemy.orm import Session, sessionmaker

from app.database import utc_now
from app.jobs.models import Artifact
from app.main import create_app
from app.settings import Settings
from tests.app.jobs.conftest import MakeJob, make_job
from tests.conftest import ON_SQLITE

__all__ = ["make_job"]

EVIL = {"Host": "evil.example"}


def client_of(settings: Settings, **changed: object) -> TestClient:
    return TestClient(
        create_app(settings.model_copy(update=changed)), base_url="http://127.0.0.1", follow_redirects=False
    )


@pytest.fixture
def job_id(client: TestClient, sessions: sessionmaker[Session], make_job: MakeJob, tmp_path: Path) -> str:
    """A job with one file in the store."""
    made = make_job("succeeded")
    (tmp_path / "file").write_bytes(b"content")
    client.app.state.store.put_file(f"jobs/{made}/t/artifacts/model.gguf", tmp_path / "file")  # type: ignore[attr-defined]
    with sessions.begin() as session:
        session.add(
            Artifact(
                job_id=made, name="model.gguf", key=f"jobs/{made}/t/artifacts/model.gguf", bytes=7, sha256="",
                format="gguf", created_at=utc_now(),
            )
        )  # fmt: skip
    return made


@pytest.fixture
def guarded(settings: Settings, job_id: str) -> TestClient:
    """The service where keys are demanded, as on an address that others reach."""
    return client_of(settings, require_key=True)


@pytest.fixture
def key(authorize: Callable[..., dict[str, str]]) -> dict[str, str]:
    return authorize("default", "submit")


def test_no_redirect_leads_to_a_name_that_the_request_made_up(
    guarded: TestClient, job_id: str, key: dict[str, str]
) -> None:
    answer = guarded.get(f"/jobs/{job_id}/artifacts/model.gguf", headers=key | EVIL)
    assert answer.status_code == 307
    location = answer.headers["location"]
    assert location.startswith("/store/jobs/")
    assert guarded.get(location, headers=EVIL).content == b"content"
    (listed,) = guarded.get(f"/jobs/{job_id}/artifacts", headers=key | EVIL).json()["artifacts"]
    assert listed["url"].startswith("/store/jobs/")
    for path in ("/jobs/", "/datasets/"):  # which lead to the path without the slash
        answer = guarded.get(path, headers=key | EVIL)
        assert "evil" not in answer.headers.get("location", "")
    assert "evil" not in str(dict(answer.headers)) + answer.text


def test_a_name_that_is_surely_the_services_own_is_in_its_urls(
    settings: Settings, job_id: str, key: dict[str, str]
) -> None:
    path = f"/jobs/{job_id}/artifacts"

    def url(host: str, **changed: object) -> str:
        client = client_of(settings, require_key=True, **changed)
        answer = client.get(path, headers=key | {"Host": host})
        return str(answer.json()["artifacts"][0]["url"]).partition("/store/")[0]

    assert url("127.0.0.1:8000") == "http://127.0.0.1:8000"
    assert url("prune.example", trusted_hosts=("prune.example",)) == "http://prune.example"
    assert url("evil.example", public_url="https://prune.example/") == "https://prune.example"


def test_with_trusted_hosts_others_are_refused_but_for_probes(settings: Settings, key: dict[str, str]) -> None:
    client = client_of(settings, require_key=True, trusted_hosts=("prune.example", "*.internal"))
    for host, status in {
        "prune.example": 200, "prune.example:8000": 200, "PRUNE.example": 200, "a.b.internal": 200, "localhost": 200,
        "evil.example": 403, "internal": 403, "x.prune.example": 403, "internal.evil": 403, "": 403,
    }.items():  # fmt: skip
        answer = client.get("/jobs", headers=key | {"Host": host})
        assert answer.status_code == status, host
        assert client.get("/healthz", headers={"Host": host}).status_code == 200
    assert "QPRUNER_TRUSTED_HOSTS" in answer.json()["remedy"]


@pytest.mark.parametrize("value", ["a b:80", "name:80", "http://a", "*", "a.*", "a/b"])
def test_a_trusted_host_that_is_no_name_is_refused(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QPRUNER_TRUSTED_HOSTS", value)
    with pytest.raises(ValueError, match="Give names"):
        Settings(_env_file=None)


def test_figures_need_a_key_of_their_scope_where_requests_need_one(
    settings: Settings, authorize: Callable[..., dict[str, str]], guarded: TestClient
) -> None:
    assert guarded.get("/metrics").status_code == 401
    for scope, status in {"read": 403, "submit": 403, "metrics": 200, "admin": 200}.items():
        assert guarded.get("/metrics", headers=authorize("default", scope)).status_code == status, scope
    assert guarded.get("/jobs", headers=authorize("default", "metrics")).status_code == 403
    assert client_of(settings, require_key=True, metrics_access="open").get("/metrics").status_code == 200
    assert client_of(settings, metrics_access="key").get("/metrics").status_code == 401
    assert client_of(settings).get("/metrics").status_code == 200


def test_figures_with_a_port_of_their_own_are_not_at_the_services(settings: Settings) -> None:
    from app.metrics_port import PortInUseError, serving_metrics
    from tests.server_processes import free_port

    chosen = settings.model_copy(update={"metrics_port": free_port(), "require_key": True})
    app = create_app(chosen)
    client = TestClient(app, base_url="http://127.0.0.1")
    assert client.get("/metrics").status_code == 404
    assert "/metrics" not in client.get("/openapi.json").json()["paths"]
    with serving_metrics(chosen, app.state.registry, "metrics_port"):
        assert "qpruner_jobs" in httpx.get(f"http://127.0.0.1:{chosen.metrics_port}/metrics").text
        other = chosen.model_copy(update={"worker_metrics_port": chosen.metrics_port})
        with (
            pytest.raises(PortInUseError, match="QPRUNER_WORKER_METRICS_PORT"),
            serving_metrics(other, app.state.registry, "worker_metrics_port"),
        ):
            pass
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"http://127.0.0.1:{chosen.metrics_port}/metrics")


@ON_SQLITE
@pytest.mark.parametrize(
    "value",
    ["0.5", "0", "1764331200", "-1", "1e9", "2026-11-28", "20261128T120000Z", "2026-11-28T12:00:00",
     "2026-11-28T12:00Z", "2026-11-28T12:00:00 01:00", "infinity", "9999-12-31T23:59:59-01:00", "٢٠٢٦-11-28T12:00:00Z"],
)  # fmt: skip
@pytest.mark.parametrize("name", ["created_before", "created_after"])
def test_a_time_that_is_none_of_rfc_3339_is_refused(client: TestClient, name: str, value: str) -> None:
    answer = client.get("/jobs", params={name: value})
    assert (answer.status_code, answer.json()["code"], answer.json()["field"]) == (422, "invalid_request", name)


@pytest.mark.parametrize("value", ["2026-11-28T12:00:00Z", "2026-11-28t12:00:00.5+01:00", "2026-11-28T12:00:00-00:00"])
def test_a_time_of_rfc_3339_is_taken(client: TestClient, value: str) -> None:
    assert client.get("/jobs", params={"created_before": value}).status_code == 200


@ON_SQLITE
@pytest.mark.parametrize("value", ["1_0", "5.0", "+5", " 5", "0x5", "٥", ""])
def test_a_number_is_written_in_digits(client: TestClient, make_job: MakeJob, value: str) -> None:
    job_id = make_job()
    for path in ("/jobs?limit={}", "/datasets?limit={}", f"/jobs/{job_id}/events?after={{}}"):
        answer = client.get(path.format(httpx.QueryParams({"x": value})["x"]).replace("+", "%2B"))
        assert answer.status_code == 422, path
    if value.isascii():
        assert client.get(f"/jobs/{job_id}/events", headers={"Last-Event-ID": value or "x"}).status_code in (200, 422)


@pytest.mark.parametrize(
    "name", ["%00", "a%00b", "%0d%0aSet-Cookie:%20a=b", "%7F", "%1b[31m", "%E2%80%AE", "%FF", "x" * 300]
)
def test_a_name_that_nothing_can_have_is_not_found(client: TestClient, job_id: str, name: str) -> None:
    for path in (
        f"/jobs/{job_id}/artifacts/{name}", f"/jobs/{name}", f"/jobs/{name}/events", f"/datasets/{name}", f"/{name}",
        f"/static/{name}", f"/guide/{name}",
    ):  # fmt: skip
        answer = client.get(path)
        assert answer.status_code == 404, (path, answer.text)
        assert "set-cookie" not in answer.headers
    assert client.delete(f"/datasets/{name}").status_code == 404
    assert client.get(f"/store/{name}").status_code in (403, 404)


def test_no_header_of_an_answer_breaks_its_line(client: TestClient, job_id: str) -> None:
    sent = {"X-Request-Id": "a b\tc", "Idempotency-Key": "x", "Last-Event-ID": "0"}
    for answer in (
        client.get(f"/jobs/{job_id}", headers=sent),
        client.get("/jobs", params={"model": "a\r\nX-Evil: 1"}),
        client.get("/jobs", params={"model": "a\0"}),
        client.post("/datasets", params={"filename": "a\r\nX-Evil: 1.txt"}, content=b"Some words. " * 300),
    ):
        assert "x-evil" not in answer.headers
        assert answer.headers["x-request-id"].startswith("req_")
        assert answer.status_code < 500

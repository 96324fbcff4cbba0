"""Requests: settings, retries, errors as types, pages, uploads."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qpruner_client import (
    BudgetInfeasibleError,
    Client,
    ClientError,
    ConflictError,
    ConnectionFailedError,
    InvalidRequestError,
    NotFoundError,
    Retries,
    SettingsError,
    TooManyRequestsError,
    UnexpectedResponseError,
)
from qpruner_client.retries import retry_after
from tests.app.live_service import Service
from tests.client.conftest import QUICK, Refusals
from tests.server_processes import free_port

pytestmark = pytest.mark.service


def run_of(sources: Path, **changes: Any) -> dict[str, Any]:
    return {
        "model": str(sources / "model"), "dataset": str(sources / "text.txt"), "target": "bitsandbytes",
        "memory_budget": "300KB", "sequence_length": 32, "prune": {"ratio": 0.1},
    } | changes  # fmt: skip


def test_the_package_needs_neither_torch_nor_the_service() -> None:
    script = "import sys, qpruner_client; print(*(set(sys.modules) & {'torch', 'app', 'qpruner_core', 'worker'}))"
    answer = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == ""


def test_a_job_is_submitted_cancelled_retried_and_deleted(client: Client, sources: Path) -> None:
    job = client.jobs.create(**run_of(sources, labels={"team": "search"}), idempotency_key="mine")
    assert (job.status, job.view.labels) == ("queued", {"team": "search"})
    assert client.jobs.create(**run_of(sources, labels={"team": "search"}), idempotency_key="mine").id == job.id
    with pytest.raises(ConflictError) as conflict:
        client.jobs.create(**run_of(sources, seed=1), idempotency_key="mine")
    assert (conflict.value.code, conflict.value.field) == ("idempotency_conflict", "Idempotency-Key")
    assert [one.id for one in client.jobs.list(status="queued", label={"team": "search"})] == [job.id]
    assert [one.id for one in client.jobs.list(q="team:sea")] == [job.id]
    assert list(client.jobs.list(q="team:chat")) == []
    with pytest.raises(ConflictError, match="Cancel it first"):
        job.delete()
    assert job.cancel().status == "cancelled"
    assert job.retry().refresh().status == "queued"
    job.cancel().delete()
    with pytest.raises(NotFoundError) as gone:
        client.jobs.get(job.id)
    assert gone.value.code == "job_not_found"


def test_an_estimate_says_what_a_run_would_come_to(client: Client, sources: Path) -> None:
    estimate = client.jobs.estimate(**run_of(sources))
    assert estimate.feasible
    assert estimate.predicted_total_bytes <= 300_000
    without_dataset = {name: value for name, value in run_of(sources).items() if name != "dataset"}
    assert client.jobs.estimate(**without_dataset).predicted_bytes == estimate.predicted_bytes


def test_a_refusal_names_field_and_remedy(client: Client, sources: Path) -> None:
    with pytest.raises(InvalidRequestError) as refused:
        client.jobs.create(**run_of(sources, prune={"ratio": 7}))
    assert (refused.value.code, refused.value.field, refused.value.status) == ("invalid_config", "prune.ratio", 422)
    assert refused.value.remedy
    assert refused.value.request_id
    with pytest.raises(BudgetInfeasibleError) as infeasible:
        client.jobs.create(**run_of(sources, memory_budget=1000))
    assert infeasible.value.smallest_feasible_bytes is not None
    assert infeasible.value.smallest_feasible_bytes > 1000


def test_what_is_refused_for_a_while_is_sent_again_and_makes_one_job(
    client: Client, sources: Path, refusals: Refusals
) -> None:
    refusals.next = [(429, {"Retry-After": "0"}), (503, {})]
    job = client.jobs.create(**run_of(sources))
    keys = {
        headers["idempotency-key"] for method, path, headers in refusals.seen if (method, path) == ("POST", "/jobs")
    }
    assert (len(refusals.seen), len(keys)) == (3, 1)
    refusals.next, refusals.after_the_fact = [(502, {})], True
    assert client.jobs.create(**run_of(sources, seed=1)).id != job.id
    assert len(list(client.jobs.list())) == 2  # the service had made the second, although its response was lost


def test_a_retry_whose_response_was_lost_is_not_made_twice(client: Client, sources: Path, refusals: Refusals) -> None:
    job = client.jobs.create(**run_of(sources)).cancel()
    refusals.next = [(502, {})]
    with pytest.raises(ClientError):
        job.retry()
    assert [path for method, path, _ in refusals.seen].count(f"/jobs/{job.id}/retry") == 1


def test_a_deletion_whose_response_was_lost_is_done(client: Client, sources: Path, refusals: Refusals) -> None:
    job = client.jobs.create(**run_of(sources)).cancel()
    refusals.next, refusals.after_the_fact = [(502, {})], True
    job.delete()
    with pytest.raises(NotFoundError):
        job.delete()  # nothing was lost this time


def test_a_refusal_that_lasts_is_an_error_of_its_kind(service: Service, refusals: Refusals) -> None:
    refusals.next = [(429, {"Retry-After": "3600"})]
    with Client(service.url, retries=QUICK) as client, pytest.raises(TooManyRequestsError) as refused:
        list(client.jobs.list())
    assert (refused.value.code, len(refusals.seen)) == ("busy", 1)  # an hour is longer than it is patient


def test_pages_hold_every_job_once(client: Client, sources: Path) -> None:
    made = [client.jobs.create(**run_of(sources, seed=seed)).id for seed in range(3)]
    connection = client.jobs._connection
    seen: list[str] = []
    for job in client.jobs.list(limit=2):
        seen.append(job.id)
    assert seen == made[::-1][:2]
    assert [job.id for job in client.jobs.list()] == made[::-1]
    assert connection.server.api_key is None


def test_a_dataset_is_uploaded_listed_and_deleted(client: Client, tmp_path: Path, refusals: Refusals) -> None:
    path = tmp_path / "task.txt"
    path.write_text("A passage of text that is long enough to be one.\n\n" * 400)
    refusals.next = [(503, {})]
    dataset = client.datasets.upload(path)
    assert (dataset.filename, dataset.bytes) == ("task.txt", path.stat().st_size)
    assert [one.id for one in client.datasets.list()] == [dataset.id]
    assert client.datasets.get(dataset.id) == dataset
    client.datasets.delete(dataset.id)
    assert list(client.datasets.list()) == []
    bad = tmp_path / "bad.jsonl"
    bad.write_text("no JSON")
    with pytest.raises(InvalidRequestError) as refused:
        client.datasets.upload(bad)
    assert (refused.value.code, refused.value.field) == ("dataset_invalid", "file")


def test_readiness_is_told_also_where_a_part_is_away(client: Client) -> None:
    readiness = client.readiness()
    assert not readiness.ready
    assert readiness.parts["database"].ready


def test_a_server_that_is_away_is_an_error_that_names_it() -> None:
    url = f"http://127.0.0.1:{free_port()}"
    with Client(url, retries=Retries(attempts=2, first_delay=0.01)) as client:
        with pytest.raises(ConnectionFailedError, match=url):
            client.jobs.get("job_x")
        with pytest.raises(ConnectionFailedError):
            client.readiness()


def test_another_server_at_the_address_is_told() -> None:
    listener = socket.create_server(("127.0.0.1", 0))

    def answer() -> None:
        connection, _ = listener.accept()
        connection.recv(65536)
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello")
        connection.close()

    threading.Thread(target=answer, daemon=True).start()
    client = Client(f"http://127.0.0.1:{listener.getsockname()[1]}", retries=QUICK)
    with listener, client, pytest.raises(UnexpectedResponseError, match="address"):
        client.readiness()


@pytest.mark.parametrize("address", ["host:8000", "ftp://host", "nonsense"])
def test_an_address_that_is_none_is_refused(address: str) -> None:
    with pytest.raises(SettingsError, match="server"):
        Client(address)


def test_server_and_key_come_from_the_environment(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QPRUNER_SERVER", service.url)
    monkeypatch.setenv("QPRUNER_API_KEY", "qp_wrong")
    with Client(retries=QUICK) as client, pytest.raises(ClientError) as refused:
        list(client.jobs.list())
    assert refused.value.code == "unauthenticated"


@given(attempt=st.integers(1, 200), asked=st.none() | st.floats(0, 1000))
def test_a_delay_is_at_least_what_was_asked_for_and_grows_to_its_limit(attempt: int, asked: float | None) -> None:
    retries = Retries(first_delay=0.5, longest_delay=30)
    delay = retries.delay(attempt, asked)
    assert max(asked or 0, 0.25) <= delay <= max(asked or 0, 30)


@pytest.mark.parametrize(
    ("value", "seconds"), [("7", 7.0), ("Thu, 01 Jan 1970 00:00:00 GMT", 0.0), ("soon", None), ("", None), ("-3", None)]
)
def test_retry_after_is_seconds_or_a_date(value: str, seconds: float | None) -> None:
    assert retry_after(httpx.Response(503, headers={"Retry-After": value})) == seconds

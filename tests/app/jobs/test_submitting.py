"""What ``POST /jobs`` queues, what it refuses, and what it leaves behind when it refuses."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from sqlalchemy import event, func, select
from sqlalchemy.orm import Session, sessionmaker

from app.ids import is_id
from app.jobs.models import Dispatch, Job, JobEvent
from app.jobs.speeds import remember_speed
from qpruner_core.config import CompressionConfig
from qpruner_core.events import STAGES
from qpruner_core.speed.record import SpeedRecord
from tests.app.jobs.conftest import MakeJob
from tests.conftest import ON_SQLITE
from tests.made_up_speed import made_up_speed


@pytest.fixture
def body(sources: Path) -> dict[str, Any]:
    """A request that is accepted."""
    return {
        "model": str(sources / "model"), "dataset": str(sources / "text.txt"),
        "target": "bitsandbytes", "memory_budget": "400kB",
        "sequence_length": 64, "labels": {"team": "a"},
    }  # fmt: skip


def count(sessions: sessionmaker[Session], table: type[Job] | type[Dispatch] | type[JobEvent]) -> int:
    with sessions() as session:
        return session.scalar(select(func.count()).select_from(table)) or 0


def nothing_queued(sessions: sessionmaker[Session]) -> bool:
    return [count(sessions, table) for table in (Job, Dispatch, JobEvent)] == [0, 0, 0]


def test_a_job_is_queued_with_its_wake_up_and_its_first_event_although_the_broker_is_away(
    client: TestClient, body: dict[str, Any], sessions: sessionmaker[Session]
) -> None:
    answer = client.post("/jobs", json=body)
    assert answer.status_code == 202, answer.text
    job = answer.json()
    assert is_id(job["id"], "job")
    assert answer.headers["location"] == f"/jobs/{job['id']}"
    assert (job["status"], job["memory_budget"], job["labels"]) == ("queued", 400_000, {"team": "a"})
    assert CompressionConfig.model_validate(job["config"]).sequence_length == 64
    waiting = {"queue", "expected_start", "expected_end"}  # which a submit does not wait for
    seen = client.get(answer.headers["location"]).json()
    assert {name: seen[name] for name in job.keys() - waiting} == {name: job[name] for name in job.keys() - waiting}
    assert seen["queue"] == {"ahead": 0}
    assert [event["type"] for event in client.get(job["links"]["events"]).json()["events"]] == ["queued"]
    with sessions() as session:
        owed = session.get(Dispatch, job["id"])
        assert owed is not None
        assert (owed.sends, owed.sent_at) == (0, None)


def test_the_same_key_and_body_give_the_same_job_also_after_its_model_has_gone(
    client: TestClient, body: dict[str, Any], sessions: sessionmaker[Session]
) -> None:
    headers = {"Idempotency-Key": "once"}
    first = client.post("/jobs", json=body, headers=headers)
    same = {key: body[key] for key in reversed(body)} | {"memory_budget": 400_000}
    again = client.post("/jobs", json=same, headers=headers)
    assert (first.status_code, again.status_code) == (202, 200)
    assert "idempotent-replayed" not in first.headers
    assert again.headers["idempotent-replayed"] == "true"
    assert again.json() == first.json()
    assert again.headers["location"] == first.headers["location"]
    assert count(sessions, Job) == count(sessions, Dispatch) == 1


def test_the_same_key_with_another_body_is_a_conflict(
    client: TestClient, body: dict[str, Any], sessions: sessionmaker[Session]
) -> None:
    client.post("/jobs", json=body, headers={"Idempotency-Key": "once"})
    for change in ({"seed": 1}, {"labels": {}}):
        answer = client.post("/jobs", json=body | change, headers={"Idempotency-Key": "once"})
        assert (answer.status_code, answer.json()["code"]) == (409, "idempotency_conflict")
        assert answer.json()["field"] == "Idempotency-Key"
    assert count(sessions, Job) == 1


def test_a_key_belongs_to_its_tenant(
    client: TestClient, body: dict[str, Any], authorize: Callable[..., dict[str, str]]
) -> None:
    ids = {
        client.post("/jobs", json=body, headers=authorize(tenant, "submit") | {"Idempotency-Key": "once"}).json()["id"]
        for tenant in ("us", "them")
    }
    assert len(ids) == 2


@pytest.mark.parametrize("key", ["", "a b", "x" * 256, "\u00e9"])
def test_a_malformed_idempotency_key_is_refused(client: TestClient, body: dict[str, Any], key: str) -> None:
    answer = client.post("/jobs", json=body, headers={"Idempotency-Key": key.encode("latin-1")})
    assert (answer.status_code, answer.json()["field"]) == (422, "idempotency-key")


def at_once(requests: int, send: Callable[[], Any]) -> list[Any]:
    """What ``requests`` threads that call ``send`` together get."""
    barrier, answers = threading.Barrier(requests), []

    def run() -> None:
        barrier.wait()
        answers.append(send())

    threads = [threading.Thread(target=run) for _ in range(requests)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return answers


def test_identical_requests_at_once_make_one_job(
    client: TestClient, body: dict[str, Any], sessions: sessionmaker[Session]
) -> None:
    answers = at_once(6, lambda: client.post("/jobs", json=body, headers={"Idempotency-Key": "race"}))
    assert sorted(answer.status_code for answer in answers) == [200] * 5 + [202]
    assert len({answer.json()["id"] for answer in answers}) == 1
    assert [count(sessions, table) for table in (Job, Dispatch, JobEvent)] == [1, 1, 1]


def test_a_full_queue_refuses_also_those_who_come_at_once(
    client: TestClient, body: dict[str, Any], make_job: MakeJob, sessions: sessionmaker[Session]
) -> None:
    for _ in range(3):
        make_job("queued")
    make_job("succeeded")
    make_job("queued", tenant="them")
    answers = at_once(5, lambda: client.post("/jobs", json=body))
    assert sorted(answer.status_code for answer in answers) == [202, 202, 429, 429, 429]
    refused = next(answer for answer in answers if answer.status_code == 429)
    assert refused.json()["code"] == "queue_full"
    assert int(refused.headers["retry-after"]) > 0


def test_a_submit_far_from_the_limit_executes_few_statements(
    client: TestClient, body: dict[str, Any], sources: Path, application: FastAPI, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(application.state.settings, "max_queued_jobs", 1000)
    with (sources / "text.txt").open("rb") as file:
        body["dataset"] = client.post("/datasets", files={"file": ("text.txt", file)}).json()["id"]
    assert client.post("/jobs", json=body).status_code == 202  # reads model and dataset
    executed: list[str] = []

    def note(connection: Any, cursor: Any, statement: str, *rest: Any) -> None:
        executed.append(statement.split()[0])

    event.listen(application.state.engine, "before_cursor_execute", note)
    assert client.post("/jobs", json=body | {"memory_budget": "390kB"}).status_code == 202
    event.remove(application.state.engine, "before_cursor_execute", note)
    assert [one for one in executed if one in ("SELECT", "INSERT")] == ["SELECT"] + ["INSERT"] * 4


@ON_SQLITE
@pytest.mark.parametrize(
    ("change", "code", "field"),
    [
        ({"memory_budget": 0}, "budget_invalid", "memory_budget"),
        ({"memory_budget": -1}, "budget_invalid", "memory_budget"),
        ({"memory_budget": "-130MB"}, "budget_invalid", "memory_budget"),
        ({"memory_budget": "lots"}, "budget_invalid", "memory_budget"),
        ({"memory_budget": "130 parsecs"}, "budget_invalid", "memory_budget"),
        ({"memory_budget": None}, "budget_invalid", "memory_budget"),
        ({"memory_budget": True}, "budget_invalid", "memory_budget"),
        ({"memory_budget": []}, "budget_invalid", "memory_budget"),
        ({"memory_budget": "9" * 400}, "budget_invalid", "memory_budget"),
        ({"memory_budget": "9" * 5000}, "budget_invalid", "memory_budget"),
        ({"memory_budget": "9" * 400 + ".5"}, "budget_invalid", "memory_budget"),
        ({"memory_budget": "6Gb"}, "budget_invalid", "memory_budget"),
        ({"memory_budget": "\u0666GB"}, "budget_invalid", "memory_budget"),
        ({"memory_budget": "0.5"}, "budget_invalid", "memory_budget"),
        ({"memory_budget": 1}, "budget_infeasible", "memory_budget"),
        ({"finetune": {"steps": 10**30}}, "invalid_config", "finetune.steps"),
        ({"allocate": {"batch": 10**12}}, "invalid_config", "allocate.batch"),
        ({"allocate": {"candidates": 10**12}}, "invalid_config", "allocate.candidates"),
        ({"allocate": {"precisions": [4] * 1000}}, "invalid_config", "allocate.precisions"),
        ({"evaluate": {"generated_tokens": 4096}}, "invalid_config", "evaluate.generated_tokens"),
        ({"finetune": {"batch_size": 1024}, "sequence_length": 512}, "invalid_config", "finetune.batch_size"),
        ({"nonsense": 1}, "invalid_config", "nonsense"),
        ({"prune": {"ratio": 2}}, "invalid_config", "prune.ratio"),
        ({"prune": {"ratios": 0.2}}, "invalid_config", "prune.ratios"),
        ({"allocate": {"precisions": ["nf5"]}}, "invalid_config", "allocate.precisions"),
        ({"seed": 2**31}, "invalid_config", "seed"),
        ({"model": ""}, "invalid_config", "model"),
        ({"model": "a\x00b"}, "invalid_config", "model"),
        ({"model": "x" * 1025}, "invalid_config", "model"),
        ({"model": "/etc"}, "path_not_allowed", "model"),
        ({"model": "{sources}/../elsewhere"}, "path_not_allowed", "model"),
        ({"model": "{sources}/nothing"}, "model_not_found", "model"),
        ({"model": "demo:nothing"}, "model_not_found", "model"),
        ({"dataset": "/etc/passwd"}, "path_not_allowed", "dataset"),
        ({"dataset": "{sources}/nothing.txt"}, "dataset_not_found", "dataset"),
        ({"dataset": "ds_01k9t4ae5xfz3v2s6q0m8y1d7c"}, "dataset_not_found", "dataset"),
        ({"dataset": "{sources}/empty.txt"}, "dataset_invalid", "dataset"),
        ({"dataset": "{sources}/short.txt"}, "dataset_too_short", "dataset"),
        ({"dataset": "{sources}/binary.txt"}, "dataset_invalid", "dataset"),
        ({"dataset": "{sources}/columns.jsonl"}, "dataset_invalid", "dataset"),
        ({"labels": {"a b": "c"}}, "invalid_config", "labels.a b.[key]"),
        ({"labels": {f"k{n}": "v" for n in range(17)}}, "invalid_config", "labels"),
        ({"labels": {"k": "v" * 256}}, "invalid_config", "labels.k"),
        ({"labels": {"k": 1}}, "invalid_config", "labels.k"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_bad_input_is_answered_with_field_and_remedy_and_queues_nothing(
    client: TestClient, body: dict[str, Any], sources: Path, sessions: sessionmaker[Session],
    change: dict[str, Any], code: str, field: str,
) -> None:  # fmt: skip
    (sources / "empty.txt").write_text("")
    (sources / "short.txt").write_text("Too little.\n")
    (sources / "binary.txt").write_bytes(bytes(range(256)) * 50)
    (sources / "columns.jsonl").write_text(json.dumps({"colour": "red"}) + "\n")
    change = {key: value.format(sources=sources) if isinstance(value, str) else value for key, value in change.items()}
    for path in ("/jobs", "/jobs/estimate"):
        answer = client.post(path, json=body | change)
        if path == "/jobs/estimate" and code == "budget_infeasible":
            assert answer.json()["feasible"] is False
            assert answer.json()["smallest_feasible_bytes"] > 1
            continue
        assert answer.status_code == 422, answer.text
        assert answer.headers["content-type"] == "application/problem+json"
        problem = answer.json()
        assert (problem["code"], problem["field"]) == (code, field), problem
        assert problem["remedy"]
        assert problem["detail"].endswith((".", "!", "?"))
    assert nothing_queued(sessions)


@pytest.mark.parametrize("missing", ["model", "dataset", "memory_budget"])
def test_a_missing_setting_is_named(client: TestClient, body: dict[str, Any], missing: str) -> None:
    del body[missing]
    answer = client.post("/jobs", json=body)
    assert (answer.status_code, answer.json()["code"], answer.json()["field"]) == (422, "invalid_config", missing)


def test_an_infeasible_budget_names_the_smallest_that_is_accepted(client: TestClient, body: dict[str, Any]) -> None:
    problem = client.post("/jobs", json=body | {"memory_budget": "1kB"}).json()
    smallest = problem["smallest_feasible_bytes"]
    assert client.post("/jobs", json=body | {"memory_budget": smallest}).status_code == 202
    assert client.post("/jobs", json=body | {"memory_budget": smallest - 1}).status_code == 422


def test_an_estimate_predicts_and_queues_nothing(
    client: TestClient, body: dict[str, Any], sessions: sessionmaker[Session]
) -> None:
    answer = client.post("/jobs/estimate", json=body)
    assert answer.status_code == 200, answer.text
    estimate = answer.json()
    assert estimate["feasible"] is True
    assert (
        estimate["smallest_feasible_bytes"] <= estimate["predicted_total_bytes"] <= 400_000 <= estimate["dense_bytes"]
    )
    assert sum(estimate["predicted_bytes"].values()) == estimate["predicted_total_bytes"]
    assert estimate["stage_seconds"] == {}
    assert "no machine has measured its speed yet" in estimate["notes"][-1]
    assert nothing_queued(sessions)


def test_an_estimate_has_the_times_of_the_machine_that_worked_last_and_measures_nothing(
    client: TestClient, body: dict[str, Any], sessions: sessionmaker[Session], monkeypatch: pytest.MonkeyPatch
) -> None:
    def measure(*_: object) -> None:
        raise AssertionError("a request measures this machine")

    monkeypatch.setattr("qpruner_core.speed.measure.measure_machine", measure)
    totals = []
    for slowness in (1.0, 20.0):
        record = SpeedRecord(speed=made_up_speed(f"worker-{slowness}", slowness=slowness))
        with sessions.begin() as session:
            remember_speed(session, record.model_dump(mode="json"))
        estimate = client.post("/jobs/estimate", json=body).json()
        assert set(estimate["stage_seconds"]) == set(STAGES)
        assert "Made-up processor" in estimate["notes"][-1]
        totals.append(sum(estimate["stage_seconds"].values()))
    assert totals[1] > 5 * totals[0]
    assert client.post("/jobs", json=body).status_code == 202


def test_an_uploaded_dataset_is_used_by_its_id_and_only_by_its_tenant(
    client: TestClient, body: dict[str, Any], sources: Path, authorize: Callable[..., dict[str, str]]
) -> None:
    us, them = authorize("us", "submit"), authorize("them", "submit")
    with (sources / "text.txt").open("rb") as file:
        upload = client.post("/datasets", files={"file": ("text.txt", file, "text/plain")}, headers=us)
    assert upload.status_code == 201, upload.text
    body["dataset"] = upload.json()["id"]
    refused = client.post("/jobs", json=body, headers=them)
    assert (refused.status_code, refused.json()["code"]) == (422, "dataset_not_found")
    accepted = client.post("/jobs", json=body, headers=us)
    assert accepted.status_code == 202, accepted.text
    assert accepted.json()["dataset"] == body["dataset"]


def test_a_job_that_is_to_fit_a_device_has_the_bytes_that_are_left_for_weights(
    client: TestClient, body: dict[str, Any]
) -> None:
    del body["memory_budget"]
    fit = {"memory": "1GB", "context": 128, "sequences": 4, "device": "cpu"}
    seen = client.post("/jobs/estimate", json=body | {"fit": fit})
    assert (seen.status_code, seen.json()["code"], seen.json()["field"]) == (422, "budget_invalid", "fit.memory")
    few = client.post("/jobs/estimate", json=body | {"fit": fit | {"memory": "1kB"}}).json()
    fit["memory"] = few["smallest_feasible_bytes"]
    seen = client.post("/jobs/estimate", json=body | {"fit": fit}).json()
    device = seen["device"]
    parts = device["weights"] + device["kv_cache"] + device["activations"] + device["engine"]
    assert (seen["feasible"], parts, seen["memory_budget"]) == (True, fit["memory"], device["weights"])
    job = client.post("/jobs", json=body | {"fit": fit})
    assert job.status_code == 202, job.text
    assert job.json()["memory_budget"] == device["weights"]
    assert job.json()["config"]["memory_budget"] is None


def test_a_budget_beside_a_device_is_refused_with_the_remedy(client: TestClient, body: dict[str, Any]) -> None:
    problem = client.post("/jobs", json=body | {"fit": {"memory": "24GB"}}).json()
    assert (problem["code"], problem["field"]) == ("budget_invalid", "memory_budget")
    assert problem["detail"] == "memory_budget and fit are both given."
    assert problem["remedy"].startswith("Give exactly one")

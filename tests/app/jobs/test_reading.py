"""Lists, filters, pages, trials, metrics and artifacts, and that none of them shows another tenant's."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy.orm import Session, sessionmaker

from app.database import utc_now
from app.ids import new_id
from app.jobs.cursor import encode_cursor
from app.jobs.models import Artifact, JobMetric, JobTrial, StageResult
from app.jobs.schemas import TrialView
from qpruner_core.report import CompressionReport, ExportedFormat, Measurement, Snippet
from qpruner_core.search.trial import pareto_front
from tests.app.jobs.conftest import MakeJob

Authorize = Callable[..., dict[str, str]]

REPORT = CompressionReport(
    model="/models/tiny", revision=None, dataset="/data/text.txt", memory_budget=1_000_000, seed=0, prune_ratio=0.2,
    groups=["layers.0", "layers.1"],
    precisions=["nf4", "int8"], widths=[{"mlp": 64}], predicted_bytes=990_000,
    stage_seconds={"prune": 1.5}, warnings=[], files=[],
    measurements=[Measurement(variant="dense", parameters=9, bytes=18, perplexity=20.0, tokens_per_second=5.0)],
)  # fmt: skip


def list_ids(client: TestClient, **query: Any) -> list[str]:
    answer = client.get("/jobs", params=query)
    assert answer.status_code == 200, answer.text
    return [job["id"] for job in answer.json()["jobs"]]


def cursor_of(moment: str) -> str:
    return encode_cursor(datetime.fromisoformat(moment), new_id("job"))


def test_pages_hold_every_job_once_although_jobs_come_in_between_and_share_a_moment(
    client: TestClient, make_job: MakeJob
) -> None:
    moment = utc_now()
    made = [make_job("succeeded", created_at=moment + timedelta(microseconds=number // 3)) for number in range(10)]
    seen: list[str] = []
    query: dict[str, Any] = {"limit": 3}
    while True:
        page = client.get("/jobs", params=query).json()
        seen += [job["id"] for job in page["jobs"]]
        if page["next_cursor"] is None:
            break
        make_job("queued", created_at=moment + timedelta(hours=1))
        query["cursor"] = page["next_cursor"]
    assert sorted(seen) == sorted(made)
    assert seen == sorted(seen, key=lambda job_id: (made.index(job_id) // 3, job_id), reverse=True)


def test_lists_are_filtered_by_status_model_label_and_time(client: TestClient, make_job: MakeJob) -> None:
    early = datetime.fromisoformat("2026-01-01T00:00:00+00:00")
    first = make_job("failed", created_at=early, labels={"team": "a", "a.b-c": 'x:"y'})
    second = make_job("cancelled", model="org/other", labels={"team": "b"})
    third = make_job("queued", labels={"team": "a"})
    assert list_ids(client, status=["failed", "cancelled"]) == [second, first]
    assert list_ids(client, model="org/other") == [second]
    assert list_ids(client, label="team:a") == [third, first]
    assert list_ids(client, label=["team:a", 'a.b-c:x:"y']) == [first]
    assert list_ids(client, label="nobody:a") == []
    assert list_ids(client, created_after="0001-01-01T00:00:00Z") == [third, second, first]
    assert list_ids(client, created_before="9999-12-31T23:59:59.999999Z") == [third, second, first]
    assert list_ids(client, created_before="2026-01-01T00:00:00.000001Z") == [first]
    assert list_ids(client, created_after="2026-01-01T00:00:00Z") == [third, second]


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ({"cursor": "bm90IGEgY3Vyc29y"}, "cursor"), ({"cursor": "ÿ"}, "cursor"), ({"limit": 101}, "limit"),
        ({"status": "lost"}, "status.0"), ({"label": "team"}, "label.0"), ({"label": 'a"b:x'}, "label.0"),
        ({"label": ["team:a", "a b:x"]}, "label.1"), ({"label": "k" * 64 + ":x"}, "label.0"),
        ({"label": "team:\x00"}, "label.0"), ({"label": "team:" + "v" * 256}, "label.0"),
        ({"created_after": "0001-01-01T00:00:00+14:00"}, "created_after"),
        ({"created_before": "9999-12-31T23:59:59-14:00"}, "created_before"),
        ({"cursor": cursor_of("0001-01-01T00:00:00+14:00")}, "cursor"),
        ({"created_after": "yesterday"}, "created_after"),
        ({"created_after": "2026-01-01T00:00:00"}, "created_after"), ({"model": "\x00"}, "model"),
    ],
)  # fmt: skip
def test_a_malformed_query_is_told_which_part_is_wrong(client: TestClient, query: dict[str, Any], field: str) -> None:
    answer = client.get("/jobs", params=query)
    assert answer.status_code == 422
    assert answer.json()["field"] == field
    assert answer.json()["remedy"]


def test_a_job_shows_its_stages_its_result_and_times_in_utc(client: TestClient, make_job: MakeJob) -> None:
    columns = {"result": REPORT.model_dump(mode="json"), "expected_seconds": {"prune": 2.5}}
    job = client.get(f"/jobs/{make_job('succeeded', **columns, progress=1.0)}").json()
    assert job["result"]["predicted_bytes"] == 990_000
    assert [stage["expected_seconds"] for stage in job["stages"]] == [2.5] + [None] * 6
    assert [stage["name"] for stage in job["stages"]] == [
        "prune", "score", "allocate", "quantize", "finetune", "export", "evaluate",
    ]  # fmt: skip
    assert datetime.fromisoformat(job["created_at"]).utcoffset() == timedelta(0)
    assert job["created_at"].endswith("Z")
    for path in job["links"].values():
        assert client.get(path).status_code == 200


@pytest.mark.parametrize("user", [True, False])
def test_a_failed_job_tells_code_field_remedy_and_whose_fault_it_is(
    client: TestClient, make_job: MakeJob, user: bool
) -> None:
    error = {"code": "dataset_too_short", "message": "Short.", "field": "dataset", "remedy": "Add text.", "user": user}
    job = client.get(f"/jobs/{make_job('failed', error=error, stage='prune')}").json()
    assert job["error"] == error
    assert job["stages"][0] == {
        "name": "prune", "status": "failed", "seconds": None, "expected_seconds": None, "reused_from": None,
    }  # fmt: skip


def test_trials_come_with_their_pareto_front_and_the_chosen_one(
    client: TestClient, make_job: MakeJob, sessions: sessionmaker[Session]
) -> None:
    job_id = make_job("succeeded", result=REPORT.model_dump(mode="json"))
    figures = [
        (["int8", "int8"], 120, 2.0),
        (["nf4", "int8"], 90, 2.1),
        (["int8", "nf4"], 90, 2.5),
        (["nf4", "nf4"], 60, 3.0),
        (["bf16", "nf4"], 130, 2.0),
    ]
    with sessions.begin() as session:
        for index, (precisions, size, loss) in enumerate(figures):
            session.add(
                JobTrial(job_id=job_id, index=index, origin="random", precisions=precisions, bytes=size, loss=loss)
            )
    answer = client.get(f"/jobs/{job_id}/trials").json()
    assert [trial["bytes"] for trial in answer["trials"]] == [120, 90, 90, 60, 130]
    assert answer["pareto_front"] == [3, 1, 0]
    assert answer["selected"] == 1


def test_trials_name_the_groups_that_precisions_are_of_once_they_are_known(
    client: TestClient, make_job: MakeJob, sessions: sessionmaker[Session]
) -> None:
    job_id = make_job("running", stage="allocate")
    assert client.get(f"/jobs/{job_id}/trials").json()["groups"] == []
    groups = ["layers.0.attention", "layers.0.mlp", "embeddings"]
    with sessions.begin() as session:
        for stage, summary in (("prune", {}), ("score", {"groups": groups})):
            session.add(
                StageResult(
                    job_id=job_id, stage=stage, attempt=1, seconds=1.0, store_prefix="", files=[], summary=summary,
                    finished_at=utc_now(),
                )
            )  # fmt: skip
    assert client.get(f"/jobs/{job_id}/trials").json()["groups"] == groups


@given(st.lists(st.tuples(st.integers(1, 9), st.integers(0, 9)), max_size=30))
def test_the_pareto_front_is_what_no_trial_beats(figures: list[tuple[int, int]]) -> None:
    trials = [
        TrialView(index=i, origin="random", precisions=["nf4"], bytes=size, loss=loss)
        for i, (size, loss) in enumerate(figures)
    ]
    front = [figures[trial.index] for trial in pareto_front(trials)]
    unbeaten = {
        (size, loss)
        for size, loss in figures
        if not any(a <= size and b <= loss and (a, b) != (size, loss) for a, b in figures)
    }
    assert sorted(front) == sorted(unbeaten)


def test_metrics_give_curves_in_order_and_the_table(
    client: TestClient, make_job: MakeJob, sessions: sessionmaker[Session]
) -> None:
    job_id = make_job("succeeded", result=REPORT.model_dump(mode="json"))
    with sessions.begin() as session:
        for step in (2, 1):
            session.add(JobMetric(job_id=job_id, name="finetune.loss", step=step, value=3.0 / step))
    answer = client.get(f"/jobs/{job_id}/metrics").json()
    assert answer["curves"] == {"finetune.loss": [{"step": 1, "value": 3.0}, {"step": 2, "value": 1.5}]}
    assert answer["measurements"][0]["perplexity"] == 20.0


def test_an_artifact_is_downloaded_through_its_signed_url_also_in_part(
    client: TestClient, application: FastAPI, make_job: MakeJob, sessions: sessionmaker[Session], tmp_path: Path
) -> None:
    job_id = make_job("succeeded")
    content = b"a checkpoint" * 1000
    digest = hashlib.sha256(content).hexdigest()
    (tmp_path / "mixed.tar").write_bytes(content)
    key = f"jobs/{job_id}/artifacts/mixed.tar"
    application.state.store.put_file(key, tmp_path / "mixed.tar")
    with sessions.begin() as session:
        session.add(Artifact(job_id=job_id, name="mixed.tar", key=key, bytes=len(content), sha256=digest, format="tar",
                             created_at=utc_now()))  # fmt: skip
    (manifest,) = client.get(f"/jobs/{job_id}/artifacts").json()["artifacts"]
    assert (manifest["name"], manifest["bytes"], manifest["sha256"]) == ("mixed.tar", len(content), digest)
    assert datetime.fromisoformat(manifest["expires_at"]) > utc_now()
    assert client.get(manifest["url"]).content == content
    redirect = client.get(f"/jobs/{job_id}/artifacts/mixed.tar")
    assert redirect.status_code == 307
    part = client.get(redirect.headers["location"], headers={"Range": "bytes=2-11"})
    assert (part.status_code, part.content) == (206, b"checkpoint")
    assert 'filename="mixed.tar"' in part.headers["content-disposition"]
    assert (manifest["unpack"], manifest["snippets"]) == ("tar -xf mixed.tar", [])  # a job of an older release
    missing = client.get(f"/jobs/{job_id}/artifacts/merged.tar")
    assert (missing.status_code, missing.json()["code"]) == (404, "artifact_not_found")


def test_the_file_to_take_comes_first_with_the_lines_that_run_it(
    client: TestClient, make_job: MakeJob, sessions: sessionmaker[Session]
) -> None:
    snippet = Snippet(tool="transformers", language="python", text="model = load()")
    exported = ExportedFormat(
        name="merged", title="one model", path="merged", artifact="merged.tar", bytes=9, snippets=(snippet,)
    )
    job_id = make_job("succeeded", result=REPORT.model_copy(update={"exported": [exported]}).model_dump(mode="json"))
    with sessions.begin() as session:
        for name, kind in (("README.md", "markdown"), ("merged.tar", "tar"), ("unknown.bin", "bin")):
            session.add(Artifact(job_id=job_id, name=name, key=f"jobs/{job_id}/artifacts/{name}", bytes=1, sha256="0",
                                 format=kind, created_at=utc_now()))  # fmt: skip
    first, card, unknown = client.get(f"/jobs/{job_id}/artifacts").json()["artifacts"]
    assert (first["name"], first["title"], first["unpack"]) == ("merged.tar", "one model", "tar -xf merged.tar")
    assert first["snippets"] == [snippet.model_dump()]
    assert (card["name"], card["unpack"], card["snippets"]) == ("README.md", None, [])
    assert (unknown["name"], unknown["title"]) == ("unknown.bin", "")


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", ""), ("GET", "/events"), ("GET", "/trials"), ("GET", "/metrics"), ("GET", "/artifacts"),
        ("GET", "/allocation?memory_budget=1MB"),
        ("GET", "/artifacts/mixed.tar"), ("POST", "/cancel"), ("POST", "/retry"), ("DELETE", ""),
    ],
)  # fmt: skip
def test_another_tenants_job_looks_like_none(
    client: TestClient, make_job: MakeJob, authorize: Authorize, method: str, path: str
) -> None:
    theirs = make_job("failed", tenant="them")
    headers = authorize("us", "submit")
    answer = client.request(method, f"/jobs/{theirs}{path}", headers=headers)
    never = client.request(method, f"/jobs/{new_id('job')}{path}", headers=headers)
    assert answer.status_code == never.status_code == 404
    assert answer.json()["code"] == never.json()["code"] == "job_not_found"
    assert answer.json()["detail"] == never.json()["detail"]
    assert client.get("/jobs", headers=headers).json()["jobs"] == []
    assert client.get(f"/jobs/{theirs}").status_code == 404  # nor does the tenant without a key see it


def test_a_key_that_may_only_read_changes_nothing(client: TestClient, make_job: MakeJob, authorize: Authorize) -> None:
    job_id = make_job("queued", tenant="us")
    headers = authorize("us", "read")
    assert client.get(f"/jobs/{job_id}", headers=headers).json()["status"] == "queued"
    for method, path in (("POST", "/cancel"), ("POST", "/retry"), ("DELETE", "")):
        answer = client.request(method, f"/jobs/{job_id}{path}", headers=headers)
        assert (answer.status_code, answer.json()["code"]) == (403, "forbidden")
    assert client.get(f"/jobs/{job_id}", headers=headers).json()["status"] == "queued"

"""Uploaded models in real worker processes: checked beside a job, fetched, and the same model by whatever id."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import func, select

from app.jobs.models import JobTrial
from app.main import create_app
from qpruner_core.events import STAGES
from tests.app.conftest import BASE_URL
from tests.s3 import S3Server
from tests.uploading import begin, contents_of, send, upload
from tests.worker.installation import Installation, children_of, eventually, kill, run_installation

pytestmark = pytest.mark.service


@pytest.fixture
def client(installation: Installation) -> Iterator[TestClient]:
    """The service of the installation."""
    yield from _client_of(installation)


def _client_of(installation: Installation) -> Iterator[TestClient]:
    app = create_app(installation.settings)
    yield TestClient(app, base_url=BASE_URL)
    app.state.broker.close()
    app.state.engine.dispose()


def ready(client: TestClient, model_id: str) -> None:
    """Wait until a worker has found the model to be good."""
    eventually(lambda: client.get(f"/models/{model_id}").json()["status"] not in ("uploading", "checking"), 120)
    view = client.get(f"/models/{model_id}").json()
    assert view["status"] == "ready", view["error"]


def measured_in_full(installation: Installation, job_id: str) -> int:
    whole = select(func.count()).where(JobTrial.job_id == job_id, ~JobTrial.stopped_early)
    with installation.sessions() as session:
        return session.scalar(whole) or 0


def succeeds(installation: Installation, job_id: str) -> None:
    job = installation.wait_for(job_id, "succeeded", "failed")
    assert job.status == "succeeded", installation.describe(job_id)


@pytest.mark.timeout(600)
def test_jobs_run_on_uploaded_models_and_one_of_the_same_content_in_another_budget_reuses_what_it_can(
    installation: Installation, client: TestClient, tiny_config: dict[str, Any]
) -> None:
    contents = contents_of(Path(tiny_config["model"]))
    first_model = upload(client, contents)
    kill_a_worker_at_the_check_of(first_model, installation, client)
    worker = installation.start_worker()
    second_model = upload(client, contents)
    ready(client, first_model)  # the second worker has checked it instead
    ready(client, second_model)
    prune = {**tiny_config["prune"], "ratio": 0.2, "width_multiple": 8, "protect_first": 1, "protect_last": 1}
    config = tiny_config | {"prune": prune}
    first = installation.submit(config | {"model": first_model})
    succeeds(installation, first)
    second = installation.submit(config | {"model": second_model, "memory_budget": "285kB"})
    succeeds(installation, second)
    third = installation.submit(tiny_config | {"model": "md_01k9t4ae5xfz3v2s6q0m8y1d7c"})
    fails_for_want_of_its_model(installation, third)
    kill(worker, signal.SIGTERM)
    assert installation.reused(first) == {}
    assert installation.reused(second) == {"prune": first, "score": first}
    assert installation.stages_started(second) == list(STAGES[2:])
    log = (installation.settings.data_dir.parent / "worker-2.log").read_text()
    assert f"{second}: {measured_in_full(installation, first)} allocations were measured before" in log
    answer = client.get(f"/jobs/{first}/allocation", params={"memory_budget": "285kB"}).json()
    assert answer["bytes"] <= 285_000
    assert len(answer["precisions"]) == len(answer["groups"]) > 0
    report = client.get(f"/jobs/{first}").json()["result"]
    assert report["model"] == first_model
    # One copy on this disk: the store's, with a name for this host
    here = installation.settings.data_dir
    name = "model.safetensors"
    assert (here / "models" / first_model / name).samefile(here / "store" / "models" / first_model / name)


def kill_a_worker_at_the_check_of(model_id: str, installation: Installation, client: TestClient) -> None:
    """Start a worker, and kill it as soon as the process that checks the model runs: that process ends too."""
    worker = installation.start_worker()
    checks = installation.settings.data_dir / "checks"
    eventually(lambda: checks.is_dir() and any(checks.iterdir()), 60)
    kill(worker)
    eventually(lambda: children_of(installation.settings) == [])
    assert client.get(f"/models/{model_id}").json()["status"] == "checking"


def fails_for_want_of_its_model(installation: Installation, job_id: str) -> None:
    job = installation.wait_for(job_id, "failed")
    assert job.error is not None
    assert (job.error["code"], job.error["field"], job.error["user"]) == ("model_not_found", "model", True)


@pytest.mark.timeout(600)
def test_a_model_goes_through_a_bucket(
    tmp_path: Path, s3_server: S3Server, tiny_config: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    import httpx

    for name, value in s3_server.environment.items():
        monkeypatch.setenv(name, value)
    settings = {
        "store_url": f"s3://{s3_server.create_bucket()}/here", "s3_endpoint_url": s3_server.endpoint_url,
        "upload_part_bytes": 5 * 2**20,
    }  # fmt: skip
    contents = contents_of(Path(tiny_config["model"])) | {"padding.txt": b"0123456789abcdef" * 2**19}
    with run_installation(tmp_path, settings) as installation, httpx.Client() as bucket:
        client = next(clients := _client_of(installation))
        view = begin(client, contents)
        parts = view["upload"]["parts"]
        assert sum(part["file"] == "padding.txt" for part in parts) == 2
        assert all(part["url"].startswith(s3_server.endpoint_url) for part in parts)
        send(bucket, parts[:-1], contents)
        left = client.get(f"/models/{view['id']}/parts").json()
        assert [(part["file"], part["number"]) for part in left["parts"]] == [(parts[-1]["file"], parts[-1]["number"])]
        assert client.post(f"/models/{view['id']}/complete").status_code == 409
        send(bucket, left["parts"], contents)
        assert client.post(f"/models/{view['id']}/complete").status_code == 202
        worker = installation.start_worker()
        ready(client, view["id"])
        job_id = installation.submit(tiny_config | {"model": view["id"]})
        succeeds(installation, job_id)
        assert client.delete(f"/models/{view['id']}").status_code == 204
        assert not installation.store.holds(f"models/{view['id']}/padding.txt")
        kill(worker, signal.SIGTERM)
        clients.close()

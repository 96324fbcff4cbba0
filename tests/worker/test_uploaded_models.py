"""Uploaded models in real worker processes: checked beside a job, fetched, and the same model by whatever id."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

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


def succeeds(installation: Installation, job_id: str) -> None:
    job = installation.wait_for(job_id, "succeeded", "failed")
    assert job.status == "succeeded", installation.describe(job_id)


@pytest.mark.timeout(600)
def test_a_job_runs_on_an_uploaded_model_and_stages_are_those_of_its_content(
    installation: Installation, client: TestClient, tiny_config: dict[str, Any]
) -> None:
    installation.start_worker()
    contents = contents_of(Path(tiny_config["model"]))
    first, second = upload(client, contents), upload(client, contents)
    ready(client, first)
    ready(client, second)
    job_id = installation.submit(tiny_config | {"model": first})
    succeeds(installation, job_id)
    again = installation.submit(tiny_config | {"model": second})
    succeeds(installation, again)
    assert {stage for stage in STAGES[:3] if stage in installation.reused(again)} == set(STAGES[:3])
    report = client.get(f"/jobs/{job_id}").json()["result"]
    assert report["model"] == first
    # One copy on this disk: the store's, with a name for this host
    here = installation.settings.data_dir
    name = "model.safetensors"
    assert (here / "models" / first / name).samefile(here / "store" / "models" / first / name)


@pytest.mark.timeout(600)
def test_a_worker_killed_at_its_check_is_followed_by_another(
    installation: Installation, client: TestClient, tiny_config: dict[str, Any]
) -> None:
    worker = installation.start_worker()
    model_id = upload(client, contents_of(Path(tiny_config["model"])))
    checks = installation.settings.data_dir / "checks"
    eventually(lambda: checks.is_dir() and any(checks.iterdir()), 60)  # the process that looks at it runs
    kill(worker)
    eventually(lambda: children_of(installation.settings) == [])
    assert client.get(f"/models/{model_id}").json()["status"] == "checking"
    installation.start_worker()
    ready(client, model_id)


@pytest.mark.timeout(600)
def test_a_job_whose_model_is_gone_fails_with_that(installation: Installation, tiny_config: dict[str, Any]) -> None:
    installation.start_worker()
    job_id = installation.submit(tiny_config | {"model": "md_01k9t4ae5xfz3v2s6q0m8y1d7c"})
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

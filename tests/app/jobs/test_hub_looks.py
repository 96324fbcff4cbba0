"""Looks at models of a hub that trickles, that nobody waits for any more, and of which headers alone are wanted."""

from __future__ import annotations

import json
import shutil
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from app.jobs.inspection import Asker, Inspector
from app.main import create_app
from app.settings import Settings
from qpruner_core.config import CompressionConfig
from qpruner_core.errors import HubUnavailableError
from tests.app.live_service import run_service
from tests.hub_server import HubServer, run_hub_server
from tests.server_processes import wait_until
from tests.tiny_gguf import write_tiny_gguf


@pytest.fixture
def hub() -> Iterator[HubServer]:
    """A running hub."""
    with run_hub_server() as server:
        yield server


@pytest.fixture
def settings(settings: Settings, hub: HubServer) -> Settings:
    """Those of a service that reads from ``hub``."""
    return settings.model_copy(
        update={"allow_hub": True, "hub_endpoint": hub.url, "max_looks": 2}
    )  # fmt: skip


@pytest.fixture
def application(settings: Settings) -> Iterator[FastAPI]:
    """The application on these settings."""
    app = create_app(settings)
    yield app
    app.state.broker.close()
    app.state.engine.dispose()


def run_on(model: str, sources: Path) -> dict[str, Any]:
    return {"model": model, "dataset": str(sources / "text.txt"), "memory_budget": "400kB", "sequence_length": 64}


@pytest.mark.parametrize("part", ["headers", "body"])
def test_a_look_at_a_hub_that_trickles_ends_at_its_deadline_and_gives_its_place_back(
    client: TestClient, application: FastAPI, hub: HubServer, sources: Path, part: Any
) -> None:
    hub.add_model("acme/tiny", sources / "model")
    inspector: Inspector = application.state.inspector
    inspector._seconds, usual = 1.0, inspector._seconds
    hub.trickling = part
    for path in ("/jobs", "/jobs/estimate"):
        answer = client.post(path, json=run_on("acme/tiny", sources))
        assert (answer.status_code, answer.json()["code"]) == (503, "hub_unavailable"), answer.text
        assert int(answer.headers["retry-after"]) > 0
    assert inspector.looks == 0
    inspector._seconds, hub.trickling = usual, ""
    assert client.post("/jobs", json=run_on("acme/tiny", sources)).status_code == 202


def test_a_look_that_nobody_waits_for_any_more_ends(
    settings: Settings, application: FastAPI, hub: HubServer, sources: Path
) -> None:
    hub.add_model("acme/tiny", sources / "model")
    hub.trickling = "body"
    patient = settings.model_copy(update={"look_seconds": 600.0})
    inspector = Inspector(application.state.session_factory, patient)
    config = CompressionConfig(**run_on("acme/tiny", sources))
    left = threading.Event()
    with ThreadPoolExecutor(1) as threads:
        asker = Asker("us", left.is_set)
        look = threads.submit(inspector.check, config, settings.source_policy, asker, check_dataset=False)
        assert wait_until(lambda: bool(hub.requests))
        assert inspector.looks == 1
        left.set()
        with pytest.raises(HubUnavailableError):
            look.result(30)
    assert inspector.looks == 0


def test_a_submit_reads_headers_alone_and_leaves_the_dataset_to_the_job(
    client: TestClient, hub: HubServer, sources: Path, tmp_path: Path, settings: Settings
) -> None:
    size = (sources / "model" / "model.safetensors").stat().st_size
    data = tmp_path / "dataset"
    data.mkdir()
    shutil.copy(sources / "text.txt", data / "text.txt")
    hub.add_model("acme/tiny", sources / "model")
    hub.add_dataset("acme/prose", data)
    body = run_on("acme/tiny", sources) | {"dataset": "acme/prose"}
    assert client.post("/jobs", json=body).status_code == 202
    assert hub.sent["model.safetensors"] < size / 4
    assert "text.txt" not in hub.sent
    asked = len(hub.requests)
    assert client.post("/jobs", json=body | {"seed": 1}).status_code == 202
    assert [one for one in hub.requests[asked:] if "datasets" not in one] == []  # the model is known


def test_a_gguf_model_of_the_hub_is_looked_at_by_its_header(
    client: TestClient, hub: HubServer, sources: Path, tmp_path: Path, settings: Settings
) -> None:
    repository = tmp_path / "repository"
    repository.mkdir()
    file = write_tiny_gguf(sources / "model", repository / "tiny.gguf")
    with file.open("ab") as stream:
        stream.truncate(file.stat().st_size + 50 * 2**20)  # as long as a real one is behind its header
    hub.add_model("acme/tiny-gguf", repository)
    answer = client.post("/jobs/estimate", json=run_on("acme/tiny-gguf", sources))
    assert answer.status_code == 200, answer.text
    assert hub.sent["tiny.gguf"] <= 2**20
    assert sum(path.stat().st_blocks * 512 for path in settings.cache_dir.rglob("*.gguf")) < 4 * 2**20


def test_a_config_of_a_model_that_no_files_can_hold_is_refused(
    client: TestClient, hub: HubServer, sources: Path, tmp_path: Path
) -> None:
    shutil.copytree(sources / "model", tmp_path / "huge")
    config = json.loads((tmp_path / "huge" / "config.json").read_text())
    (tmp_path / "huge" / "config.json").write_text(json.dumps(config | {"head_dim": 2 * 10**8}))
    hub.add_model("acme/huge", tmp_path / "huge")
    answer = client.post("/jobs/estimate", json=run_on("acme/huge", sources))
    assert (answer.status_code, answer.json()["code"]) == (422, "corrupt_model")


def test_a_client_that_goes_away_takes_its_look_with_it(
    settings: Settings, hub: HubServer, sources: Path
) -> None:  # fmt: skip
    hub.add_model("acme/tiny", sources / "model")
    hub.trickling = "body"
    services = run_service(settings.model_copy(update={"look_seconds": 600.0}))
    service = next(services)
    inspector: Inspector = service.app.state.inspector
    gone = threading.Thread(target=_ask_and_leave, args=(service.url, run_on("acme/tiny", sources)))
    gone.start()
    assert wait_until(lambda: inspector.looks == 1)
    gone.join()
    assert wait_until(lambda: inspector.looks == 0)
    services.close()  # type: ignore[attr-defined]


def _ask_and_leave(url: str, body: dict[str, Any]) -> None:
    with suppress(httpx.ReadTimeout), httpx.Client(base_url=url, timeout=httpx.Timeout(60, read=5)) as client:
        client.post("/jobs", json=body)

"""Many who ask whether the service is ready, and what is loaded before anybody asks."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from app import health
from app.health import PartState, Readiness, ReadinessProbe
from app.jobs.warm_up import WarmUp
from tests.app.conftest import BASE_URL

READY = Readiness(ready=True, parts={"store": PartState(ready=True, detail="ready")})


class Check:
    """A check that takes a while, and counts."""

    def __init__(self) -> None:
        self.runs = self.at_once = self.most_at_once = 0
        self.release = threading.Event()

    def __call__(self) -> Readiness:
        self.runs += 1
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        self.release.wait(20)
        self.at_once -= 1
        return READY.model_copy()


def test_all_who_ask_at_once_get_one_checks_answer_and_hold_no_thread(application: FastAPI) -> None:
    check = Check()
    application.state.readiness = ReadinessProbe(check)

    async def ask() -> list[int]:
        transport = httpx.ASGITransport(app=application)
        async with httpx.AsyncClient(transport=transport, base_url=BASE_URL) as client:
            waiting = [asyncio.create_task(client.get("/readyz")) for _ in range(200)]
            while not check.runs:  # by then all of them wait
                await asyncio.sleep(0.01)
            assert (await client.get("/healthz")).status_code == 200  # which needs one of the threads
            waiting[0].cancel()  # one who goes away takes nothing from the others
            await asyncio.sleep(0)
            check.release.set()
            return [(await answer).status_code for answer in waiting[1:]]

    assert asyncio.run(ask()) == [200] * 199
    assert (check.runs, check.most_at_once) == (1, 1)


def test_an_answer_is_given_again_until_it_is_old(monkeypatch: pytest.MonkeyPatch) -> None:
    check = Check()
    check.release.set()
    probe = ReadinessProbe(check)
    first = probe.current().result(10)
    assert probe.current().result(10) is first
    monkeypatch.setattr(health, "_FRESH_SECONDS", 0.0)
    probe._fresh_until = time.monotonic()
    assert probe.current().result(10) is not first
    probe.current().result(10)
    assert check.runs == 3


def test_a_check_that_breaks_is_told_and_tried_again() -> None:
    def broken() -> Readiness:
        raise RuntimeError("no threads left")

    probe = ReadinessProbe(broken)
    for _ in range(2):
        with pytest.raises(RuntimeError):
            probe.current().result(10)


def test_the_store_is_written_to_once_however_many_ask(application: FastAPI, client: TestClient) -> None:
    checks = 0
    check = application.state.store.check

    def counted() -> None:
        nonlocal checks
        checks += 1
        check()

    application.state.store.check = counted
    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(lambda _: client.get("/readyz").json(), range(8)))
    assert len({str(answer) for answer in answers}) == 1
    assert answers[0]["parts"]["store"]["ready"] is True
    assert checks == 1


SERVING = """
import sys, time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from fastapi.testclient import TestClient
from app.jobs.warm_up import load_core
from app.main import create_app
from app.settings import Settings

def request():
    load_core()
    from qpruner_core.data import inspect_dataset
    from transformers import PreTrainedTokenizerBase

app = create_app(Settings(data_dir=Path(sys.argv[1]), broker_url="redis://127.0.0.1:1"))
assert "torch" not in sys.modules
with TestClient(app):
    if sys.argv[2] == "everything":
        with ThreadPoolExecutor(6) as pool:
            [future.result() for future in [pool.submit(request) for _ in range(6)]]
        app.state.warm_up.finish()
        assert app.state.warm_up.state == "warm"
"""


@pytest.mark.parametrize("loaded", ["everything", "a part"])
def test_a_process_that_serves_loads_what_jobs_need_beside_requests_that_do_and_may_end_meanwhile(
    loaded: str, tmp_path: Path
) -> None:
    """Importing transformers from two threads at once would leave one with an empty module."""
    ended = subprocess.run(
        [sys.executable, "-c", SERVING, str(tmp_path), loaded], capture_output=True, text=True, timeout=120, check=False
    )
    assert ended.returncode == 0, ended.stderr


def test_a_stop_leaves_what_is_not_loaded_yet(monkeypatch: pytest.MonkeyPatch) -> None:
    loading, loaded = threading.Event(), []

    def load(module: str) -> None:
        loaded.append(module)
        loading.set()
        assert warm_up._stopping.wait(10)

    monkeypatch.setattr("app.jobs.warm_up._load", load)
    warm_up = WarmUp()
    warm_up.start()
    assert loading.wait(10)
    warm_up.stop()
    assert (loaded, warm_up.state) == (["torch"], "cold")


def test_what_cannot_be_loaded_is_logged_and_the_service_lives(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("app.jobs.warm_up._STEPS", ("qpruner_core.no_such_module",))
    warm_up = WarmUp()
    warm_up.start()
    warm_up.finish()
    assert warm_up.state == "broken"
    assert "no_such_module cannot be used" in caplog.text


def test_a_process_is_ready_once_it_has_loaded_what_it_looks_at_models_with(
    application: FastAPI, client: TestClient
) -> None:
    cold = client.get("/readyz")
    assert (cold.status_code, cold.json()["parts"]["models"]) == (503, {"ready": False, "detail": "is loading"})
    application.state.readiness = ReadinessProbe(lambda: health.check_service(application.state))
    application.state.warm_up.start()
    application.state.warm_up.finish()
    assert client.get("/readyz").json()["parts"]["models"] == {"ready": True, "detail": "ready"}

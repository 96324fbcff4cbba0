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


def test_a_process_that_serves_loads_what_the_first_job_needs_and_may_end_meanwhile(tmp_path: Path) -> None:
    program = """
import sys, time
from pathlib import Path
from fastapi.testclient import TestClient
from app.main import create_app
from app.settings import Settings
app = create_app(Settings(data_dir=Path(sys.argv[1]), broker_url="redis://127.0.0.1:1"))
assert "torch" not in sys.modules
with TestClient(app):
    while sys.argv[2] == "all" and app.state.warm_up.state == "cold":
        time.sleep(0.05)
print("transformers" in sys.modules)
"""
    for wanted, loaded in (("all", "True"), ("some", None)):
        command = [sys.executable, "-c", program, str(tmp_path), wanted]
        ended = subprocess.run(command, capture_output=True, text=True, timeout=120)
        assert ended.returncode == 0, ended.stderr
        assert loaded in (None, ended.stdout.strip())


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


def test_requests_and_the_warm_up_may_load_the_core_at_the_same_time() -> None:
    """In a process of its own: importing transformers from two threads at once leaves one with an empty module."""
    script = (
        "import threading\n"
        "from concurrent.futures import ThreadPoolExecutor\n"
        "from app.jobs.warm_up import WarmUp, load_core\n"
        "def request():\n"
        "    load_core()\n"
        "    from qpruner_core.data import inspect_dataset\n"
        "    from transformers import PreTrainedTokenizerBase\n"
        "warm_up = WarmUp()\n"
        "warm_up.start()\n"
        "with ThreadPoolExecutor(6) as pool:\n"
        "    [future.result() for future in [pool.submit(request) for _ in range(6)]]\n"
        "warm_up.finish()\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr

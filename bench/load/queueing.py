"""How soon a queued job starts beside a bare Celery round trip, and what a flood of one tenant does to another."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import redis
from sqlalchemy.orm import Session

from app.broker import redis_url, resolved_broker_url
from app.database import create_database_engine
from app.keys.service import create_key
from app.secrets import load_signing_key
from bench.load.clients import Client
from bench.load.echo_worker import ANSWERS, ECHO, create_echo
from bench.load.parts import Served

_DONE = ("succeeded", "failed", "cancelled")


@dataclass
class QueueFigures:
    """Milliseconds: from the answer to a submit to the start of its job with an idle worker, and of a bare Celery round
    trip. Seconds: of one job, and of the wait of a tenant's only job while another tenant has ``flood`` jobs queued."""

    starts: list[float] = field(default_factory=list)
    round_trips: list[float] = field(default_factory=list)
    job_seconds: float = 0.0
    waits: list[float] = field(default_factory=list)
    flood: int = 0


def measure_queueing(service: Served, samples: int, flood: int) -> QueueFigures:
    """Start a worker whose jobs take a second, and measure."""
    directions = service.folder / "directions"
    directions.mkdir()
    figures = QueueFigures(flood=flood)
    broker = resolved_broker_url(service.settings)
    service.start("bench.load.echo_worker", broker, name="echo")
    figures.round_trips = _round_trips(broker, samples)
    service.start("bench.load.worker", str(directions), name="worker")
    client = Client(service.url)
    _wait(client, _submit(service, client, 0), {})  # the worker is there
    durations = []
    for number in range(samples):
        time.sleep(1.0)  # the worker sweeps after a job
        submitted = _submit(service, client, number)
        job = _wait(client, submitted, {})
        figures.starts.append(1000 * _seconds(job["created_at"], job["started_at"]))
        durations.append(_seconds(job["started_at"], job["finished_at"]))
    figures.job_seconds = sum(durations) / len(durations)
    loud, quiet = _key(service, "loud"), _key(service, "quiet")
    for number in range(flood):
        _submit(service, client, number, loud)
    for number in range(3):
        job = _wait(client, _submit(service, client, number, quiet), quiet)
        figures.waits.append(_seconds(job["created_at"], job["started_at"]))
    return figures


def _round_trips(broker: str, samples: int) -> list[float]:
    celery, answers = create_echo(broker), redis.Redis.from_url(redis_url(broker), socket_timeout=90)
    found = []
    for number in range(samples + 1):  # the first waits for the worker
        begin = time.perf_counter()
        celery.send_task(ECHO, args=[str(number)], ignore_result=True)
        if answers.blpop(ANSWERS, timeout=60) is None:
            raise RuntimeError("The bare worker does not answer.")
        found.append(1000 * (time.perf_counter() - begin))
        time.sleep(0.2)
    return found[1:]


def _submit(service: Served, client: Client, number: int, headers: dict[str, str] | None = None) -> str:
    body = {"model": str(service.sources / "model"), "dataset": str(service.sources / "text.txt"), "seed": number,
            "sequence_length": 64, "memory_budget": 300_000 + number, "target": "bitsandbytes"}  # fmt: skip
    status, answer = client.send("POST", "/jobs", body, headers)
    if status != 202:
        raise RuntimeError(answer.decode())
    return str(json.loads(answer)["id"])


def _wait(client: Client, job_id: str, headers: dict[str, str]) -> dict[str, Any]:
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline:
        job: dict[str, Any] = json.loads(client.send("GET", f"/jobs/{job_id}", None, headers)[1])
        if job["status"] in _DONE:
            if job["status"] != "succeeded":
                raise RuntimeError(f"{job_id}: {job['error']}")
            return job
        time.sleep(0.1)
    raise RuntimeError(f"{job_id} does not end.")


def _key(service: Served, tenant: str) -> dict[str, str]:
    engine = create_database_engine(service.settings.resolved_database_url)
    with Session(engine) as session, session.begin():
        _, text = create_key(session, load_signing_key(service.settings), tenant, "load", ["submit"])
    engine.dispose()
    return {"Authorization": f"Bearer {text}"}


def _seconds(begin: str, end: str) -> float:
    return (datetime.fromisoformat(end) - datetime.fromisoformat(begin)).total_seconds()

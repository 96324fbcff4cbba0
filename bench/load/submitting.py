"""Rate and latency of ``POST /jobs`` beside a bare endpoint with one insert, in turns on the same database."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import httpx
from sqlalchemy import update

from app.database import create_database_engine
from app.jobs.models import Job
from bench.load.clients import Client, Timings, closed_loop
from bench.load.parts import Served, answers
from tests.server_processes import free_port, wait_until


def measure_submitting(service: Served, clients: int, seconds: float, turns: int) -> dict[str, Timings]:
    """Timings of the bare endpoint, of submits that differ in their labels, and of submits that differ in their budget.

    Each has ``turns`` turns of ``seconds``, one after the other, so that what else the machine does meets all alike. A
    turn begins with an empty queue: a submit counts the unfinished jobs, whose limit (100 by default) is raised here.
    """
    port = free_port()
    service.start("bench.load.bare", service.settings.resolved_database_url, str(port), name="bare")
    bare = f"http://127.0.0.1:{port}"
    if not wait_until(lambda: answers(bare)):
        raise RuntimeError("The bare endpoint did not start.")
    body = {"model": str(service.sources / "model"), "dataset": _upload(service), "sequence_length": 64,
            "memory_budget": 300_000}  # fmt: skip
    count = itertools.count()

    def labelled(client: Client) -> int:
        return client.send("POST", "/jobs", body | {"labels": {"n": str(next(count))}})[0]

    def budgeted(client: Client) -> int:
        return client.send("POST", "/jobs", body | {"memory_budget": 250_000 + next(count) % 50_000})[0]

    kinds: dict[str, tuple[str, Callable[[Client], int]]] = {
        "bare endpoint with one insert": (bare, labelled),
        "POST /jobs, same settings": (service.url, labelled),
        "POST /jobs, another budget each": (service.url, budgeted),
    }
    for url, request in kinds.values():  # warm
        closed_loop(url, clients, 1.0, request)
    found = {name: Timings() for name in kinds}
    engine = create_database_engine(service.settings.resolved_database_url)
    for _ in range(turns):
        for name, (url, request) in kinds.items():
            with engine.begin() as connection:
                connection.execute(update(Job).where(Job.status == "queued").values(status="cancelled"))
            found[name] += closed_loop(url, clients, seconds, request)
    engine.dispose()
    return found


def _upload(service: Served) -> str:
    with (service.sources / "text.txt").open("rb") as file:
        answer = httpx.post(f"{service.url}/datasets", files={"file": ("text.txt", file)}, timeout=60)
    answer.raise_for_status()
    return str(answer.json()["id"])

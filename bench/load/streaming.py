"""Many event streams at once: how long ``GET /jobs`` takes beside them, and an event to every stream."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from sqlalchemy.orm import Session

from app.database import create_database_engine
from app.jobs.history import append_event
from bench.load.clients import Client, Timings, closed_loop
from bench.load.parts import Served

_JOBS = 50


@dataclass
class StreamFigures:
    """``GET /jobs`` without and with ``streams`` open, of which ``opened`` were answered, and milliseconds from the
    commit of an event to each stream that was told of it."""

    streams: int
    opened: int
    alone: Timings
    beside: Timings
    delivered: list[float] = field(default_factory=list)


def measure_streaming(service: Served, streams: int, seconds: float, clients: int = 2) -> StreamFigures:
    """Open ``streams`` on 50 queued jobs, and list jobs and write events beside them."""
    client = Client(service.url)
    body = {"model": str(service.sources / "model"), "dataset": str(service.sources / "text.txt"),
            "sequence_length": 64, "memory_budget": 300_000}  # fmt: skip
    jobs = [json.loads(client.send("POST", "/jobs", body)[1])["id"] for _ in range(_JOBS)]
    alone = closed_loop(service.url, clients, seconds, _list_jobs, wanted=200)
    with _open_streams(service.url, jobs, streams) as told:
        opened = told.opened
        written: dict[str, float] = {}
        stop = threading.Event()
        writer = threading.Thread(target=_write, args=(service, jobs, written, stop))
        writer.start()
        beside = closed_loop(service.url, clients, seconds, _list_jobs, wanted=200)
        stop.set()
        writer.join()
        time.sleep(2)
        delays = [1000 * (at - written[mark]) for mark, at in told.heard if mark in written]
    return StreamFigures(streams, opened, alone, beside, delays)


def _list_jobs(client: Client) -> int:
    return client.send("GET", "/jobs?limit=20")[0]


def _write(service: Served, jobs: list[str], written: dict[str, float], stop: threading.Event) -> None:
    """Two events a second, each of another job."""
    engine = create_database_engine(service.settings.resolved_database_url)
    number = 0
    while not stop.wait(0.5):
        with Session(engine) as session, session.begin():
            append_event(session, jobs[number % len(jobs)], "warning", {"mark": f"mark-{number}"})
        written[f"mark-{number}"] = time.perf_counter()
        number += 1
    engine.dispose()


@dataclass
class _Told:
    opened: int = 0
    heard: list[tuple[str, float]] = field(default_factory=list)


@contextmanager
def _open_streams(url: str, jobs: list[str], count: int) -> Iterator[_Told]:
    """``count`` streams in a thread of their own; what they were told."""
    told, ready, done = _Told(), threading.Event(), threading.Event()
    thread = threading.Thread(target=lambda: asyncio.run(_follow(url, jobs, count, told, ready, done)))
    thread.start()
    ready.wait(600)
    try:
        yield told
    finally:
        done.set()
        thread.join()


async def _follow(
    url: str, jobs: list[str], count: int, told: _Told, ready: threading.Event, done: threading.Event
) -> None:
    limit = asyncio.Semaphore(50)
    tasks = [asyncio.create_task(_one(url, jobs[number % len(jobs)], told, limit)) for number in range(count)]
    previous, since = -1, time.monotonic()
    while told.opened < count and time.monotonic() - since < 60:  # a minute without another one: it has the rest
        if told.opened != previous:
            previous, since = told.opened, time.monotonic()
        await asyncio.sleep(0.1)
    ready.set()
    while not done.is_set():
        await asyncio.sleep(0.1)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def _one(url: str, job_id: str, told: _Told, limit: asyncio.Semaphore) -> None:
    parts = urlsplit(url)
    async with limit:
        reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
        request = f"GET /jobs/{job_id}/events HTTP/1.1\r\nHost: {parts.netloc}\r\nAccept: text/event-stream\r\n\r\n"
        writer.write(request.encode())
        if b" 200 " in await reader.readline():
            await reader.readuntil(b"event: queued")  # the history is there: it is live
            told.opened += 1
    try:
        while line := await reader.readline():
            if (place := line.find(b"mark-")) >= 0:
                told.heard.append((line[place:].split(b'"')[0].decode(), time.perf_counter()))
    finally:
        writer.close()

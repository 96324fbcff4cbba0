"""The live stream of a job's history, from a real server over a real socket."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import httpx
import pytest
import uvicorn
from fastapi import FastAPI
from sqlalchemy import Engine, text, update
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session, sessionmaker

from app.database import utc_now
from app.jobs import event_views, lease, stream
from app.jobs.history import append_event
from app.jobs.models import Job, JobEvent
from tests.app.jobs.conftest import MakeJob
from tests.server_processes import wait_until

ACCEPT = {"Accept": "text/event-stream"}


@dataclass
class Message:
    """One message of a stream."""

    id: str = ""
    event: str = ""
    data: str = ""
    comments: list[str] = field(default_factory=list)


@pytest.fixture
def server(application: FastAPI) -> Iterator[httpx.Client]:
    """A client of the application in a real server, whose shutdown must not wait for streams."""
    listener = socket.create_server(("127.0.0.1", 0))
    running = uvicorn.Server(uvicorn.Config(application, log_level="warning"))
    thread = threading.Thread(target=running.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{listener.getsockname()[1]}", timeout=20) as client:
            client.get("/healthz")
            yield client
    finally:
        running.should_exit = True
        thread.join(10)
        assert not thread.is_alive()


def read(response: httpx.Response) -> Iterator[Message]:
    message = Message()
    for line in response.iter_lines():
        if not line:
            yield message
            message = Message()
            continue
        name, _, value = line.partition(":")
        if not name:
            message.comments.append(value.strip())
        elif name in ("id", "event", "data"):
            setattr(message, name, value.removeprefix(" "))


def events_of(response: httpx.Response) -> Iterator[Message]:
    return (message for message in read(response) if message.event)


def test_a_stream_tells_events_as_they_come_and_ends_with_the_job(
    server: httpx.Client, make_job: MakeJob, sessions: sessionmaker[Session]
) -> None:
    job_id = make_job("queued")
    with server.stream("GET", f"/jobs/{job_id}/events", headers=ACCEPT) as response:
        assert response.headers["content-type"].startswith("text/event-stream")
        messages = events_of(response)
        assert next(messages).event == "queued"
        with sessions.begin() as session:
            held = lease.claim(session, job_id, "worker@host", 30)
        assert held is not None
        started = next(messages)
        assert started.event == "started"
        assert json.loads(started.data)["data"]["worker"] == "worker@host"
        with sessions.begin() as session:
            lease.succeed(session, held, {})
        assert [message.event for message in messages] == ["succeeded"]


def test_a_stream_that_broke_off_goes_on_after_the_last_event_seen(
    server: httpx.Client, make_job: MakeJob, sessions: sessionmaker[Session]
) -> None:
    job_id, other = make_job("queued"), make_job("queued")
    with sessions.begin() as session:
        for number in range(5):
            append_event(session, job_id, "warning", {"message": f"line one\nline {number}"})
            append_event(session, other, "warning", {"message": "not for you"})
    with server.stream("GET", f"/jobs/{job_id}/events", headers=ACCEPT) as response:
        messages = events_of(response)
        seen = [next(messages) for _ in range(3)]
    server.post(f"/jobs/{job_id}/cancel")
    with server.stream("GET", f"/jobs/{job_id}/events", headers=ACCEPT | {"Last-Event-ID": seen[-1].id}) as response:
        seen += list(events_of(response))
    assert [message.event for message in seen] == ["queued", *["warning"] * 5, "cancelled"]
    history = server.get(f"/jobs/{job_id}/events").json()["events"]
    assert [json.loads(message.data) for message in seen] == history
    assert [message.id for message in seen] == [str(event["id"]) for event in history]
    after_the_end = server.get(f"/jobs/{job_id}/events", headers=ACCEPT | {"Last-Event-ID": seen[-1].id})
    assert after_the_end.status_code == 204  # which tells a browser's EventSource not to come again


def test_a_stream_that_waits_sends_heartbeats_and_holds_no_connection_of_the_database(
    server: httpx.Client, application: FastAPI, make_job: MakeJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream, "HEARTBEAT_SECONDS", 0.1)
    job_id = make_job("queued")
    engine: Engine = application.state.engine
    busy = contextlib.ExitStack()
    with busy, server.stream("GET", f"/jobs/{job_id}/events", headers=ACCEPT) as response:
        messages = read(response)
        pings = 0
        while pings < 3:
            pings += any("ping" in comment for comment in next(messages).comments)
        assert wait_until(lambda: engine.pool.checkedout() == 0, 5, every=0.005)  # type: ignore[attr-defined]
    assert server.get(f"/jobs/{job_id}").json()["status"] == "queued"


def test_a_stream_outlives_a_database_that_goes_away_for_a_while(
    server: httpx.Client, make_job: MakeJob, sessions: sessionmaker[Session], caplog: pytest.LogCaptureFixture
) -> None:
    job_id = make_job("queued")
    with server.stream("GET", f"/jobs/{job_id}/events", headers=ACCEPT) as response:
        messages = events_of(response)
        assert next(messages).event == "queued"
        with sessions.begin() as session:
            session.execute(text("ALTER TABLE job_events RENAME TO job_events_away"))
        assert wait_until(lambda: "the database is unavailable" in caplog.text)  # a look has failed
        with sessions.begin() as session:
            session.execute(text("ALTER TABLE job_events_away RENAME TO job_events"))
        server.post(f"/jobs/{job_id}/cancel")
        assert [message.event for message in messages] == ["cancelled"]


def test_a_stream_ends_when_its_job_is_deleted(
    server: httpx.Client, make_job: MakeJob, sessions: sessionmaker[Session]
) -> None:
    job_id = make_job("queued")
    with server.stream("GET", f"/jobs/{job_id}/events", headers=ACCEPT) as response:
        messages = events_of(response)
        next(messages)
        with sessions.begin() as session:
            session.delete(session.get_one(Job, job_id))
        assert list(messages) == []


def test_a_long_history_is_told_whole_and_in_order(
    server: httpx.Client, make_job: MakeJob, sessions: sessionmaker[Session]
) -> None:
    job_id = make_job("cancelled")
    with sessions.begin() as session:
        session.add_all(
            JobEvent(job_id=job_id, type="warning", data={"n": number}, created_at=utc_now()) for number in range(450)
        )
    with server.stream("GET", f"/jobs/{job_id}/events", headers=ACCEPT) as response:
        told = [json.loads(message.data)["data"].get("n") for message in events_of(response)]
    assert told == [None, *range(450)]
    pages, after = [], 0
    while after is not None:
        page = server.get(f"/jobs/{job_id}/events", params={"after": after, "limit": 100}).json()
        pages += [event["data"].get("n") for event in page["events"]]
        after = page["next_after"]
    assert pages == told


def test_streams_of_one_key_are_limited_and_closing_one_makes_room(
    server: httpx.Client, application: FastAPI, make_job: MakeJob, authorize: Callable[..., dict[str, str]]
) -> None:
    application.state.streams._most = 2
    job_id = make_job("queued", tenant="us")
    ours, others = authorize("us", "read"), authorize("us", "read")
    path = f"/jobs/{job_id}/events"

    def status(headers: dict[str, str]) -> int:
        with server.stream("GET", path, headers=headers | ACCEPT, timeout=5) as response:
            return response.status_code

    with server.stream("GET", path, headers=ours | ACCEPT) as first:
        heard = events_of(first)  # kept: a reader that is collected closes its stream
        assert next(heard).event == "queued"
        with server.stream("GET", path, headers=ours | ACCEPT) as second:
            heard_too = events_of(second)
            assert next(heard_too).event == "queued"
            refused = server.get(path, headers=ours | ACCEPT, timeout=5)
            assert (refused.status_code, refused.json()["code"]) == (429, "too_many_streams")
            assert int(refused.headers["retry-after"]) > 0
            assert server.get(path, headers=ours).status_code == 200  # the history as JSON is no stream
            assert status(others) == 200
    assert wait_until(lambda: status(ours) == 200)


def test_many_streams_are_fed_by_one_look_and_each_is_told_once(
    server: httpx.Client, application: FastAPI, make_job: MakeJob, sessions: sessionmaker[Session]
) -> None:
    jobs = [make_job("queued") for _ in range(3)]
    told: list[list[str]] = []

    def follow(job_id: str) -> None:
        path = f"{server.base_url}/jobs/{job_id}/events"
        with httpx.stream("GET", path, headers=ACCEPT, timeout=30) as response:
            told.append([message.id for message in events_of(response)])

    threads = [threading.Thread(target=follow, args=(job_id,)) for job_id in jobs * 10]
    for thread in threads:
        thread.start()
    feed = application.state.streams.feed
    assert wait_until(lambda: sum(len(one) for one in feed._followed.values()) == 30)
    looks: list[int] = []
    read = feed._read
    feed._read = lambda jobs, *rest: looks.append(len(jobs)) or read(jobs, *rest)
    for job_id in jobs:
        with sessions.begin() as session:
            append_event(session, job_id, "warning", {"message": "all hear this"})
    for job_id in jobs:
        server.post(f"/jobs/{job_id}/cancel")
    for thread in threads:
        thread.join(30)
    assert len(told) == 30
    assert all(len(ids) == len(set(ids)) == 3 for ids in told)
    assert max(looks) <= 3  # jobs, not streams
    assert wait_until(lambda: not feed._followed)


def test_an_event_that_this_release_cannot_read_is_passed_by_all_streams_and_logged_once(
    server: httpx.Client, make_job: MakeJob, sessions: sessionmaker[Session], caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(event_views, "_skipped", set())
    ours, others = make_job("queued"), make_job("queued")
    unreadable = [("of_tomorrow", {"stage": "x"}), ("stage_progress", {"fraction": 2})]

    def record(job_id: str, *events: tuple[str, dict[str, object]]) -> None:
        with sessions.begin() as session:
            session.add_all(JobEvent(job_id=job_id, type=one, data=data, created_at=utc_now()) for one, data in events)

    record(ours, *unreadable)
    with contextlib.ExitStack() as streams:
        opened = [
            streams.enter_context(server.stream("GET", f"/jobs/{job_id}/events", headers=ACCEPT))
            for job_id in (ours, ours)
        ]
        messages = [events_of(response) for response in opened]
        assert [next(one).event for one in messages] == ["queued"] * 2
        neighbour = events_of(streams.enter_context(server.stream("GET", f"/jobs/{others}/events", headers=ACCEPT)))
        assert next(neighbour).event == "queued"
        record(ours, *unreadable)
        record(others, ("warning", {"message": "heard"}))
        assert next(neighbour).event == "warning"
        record(ours, ("warning", {"message": "heard"}))
        assert [next(one).event for one in messages] == ["warning"] * 2
        server.post(f"/jobs/{ours}/cancel")
        assert [[rest.event for rest in one] for one in messages] == [["cancelled"]] * 2
    page = server.get(f"/jobs/{ours}/events", params={"limit": 3}).json()
    assert [event["type"] for event in page["events"]] == ["queued"]
    page = server.get(f"/jobs/{ours}/events", params={"after": page["next_after"]}).json()
    assert [event["type"] for event in page["events"]] == ["warning", "cancelled"]
    seen = {"Last-Event-ID": str(page["events"][-1]["id"])}
    record(ours, unreadable[0])
    assert server.get(f"/jobs/{ours}/events", headers=ACCEPT | seen).status_code == 204
    assert len([one for one in caplog.records if "'of_tomorrow'" in one.getMessage()]) == 1


def test_whoever_reads_keeps_no_writer_waiting_and_cannot_write(
    application: FastAPI, make_job: MakeJob, sessions: sessionmaker[Session]
) -> None:
    job_id = make_job("queued")
    with application.state.read_sessions() as reading:
        assert reading.get(Job, job_id).priority == 0
        with sessions.begin() as session:
            session.get_one(Job, job_id).priority = 9
        with pytest.raises(DBAPIError):
            reading.execute(update(Job).values(priority=1))
    with sessions() as session:
        assert session.get_one(Job, job_id).priority == 9


# SQLite has one writer at a time by itself.
@pytest.mark.parametrize("database_url", [pytest.param("postgresql", marks=pytest.mark.service)], indirect=True)
def test_a_stream_misses_no_event_of_a_writer_that_commits_late(
    make_job: MakeJob, sessions: sessionmaker[Session]
) -> None:
    job_id = make_job("queued")

    def write() -> None:
        with sessions.begin() as session:
            append_event(session, job_id, "warning", {"writer": "second"})

    second = threading.Thread(target=write)
    with sessions.begin() as session:
        append_event(session, job_id, "warning", {"writer": "first"})
        second.start()
        second.join(0.3)
        seen = list(stream._look(sessions, job_id, 0).events)
    second.join()
    seen += stream._look(sessions, job_id, seen[-1].id).events
    assert [event.data.get("writer") for event in seen] == [None, "first", "second"]

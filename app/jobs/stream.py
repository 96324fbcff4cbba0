"""A job's history as Server-Sent Events. Between two looks a stream holds no session and no thread."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass

from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session, sessionmaker
from sse_starlette import EventSourceResponse, ServerSentEvent
from starlette.concurrency import run_in_threadpool

from app.jobs import repository
from app.jobs.event_views import EventView
from app.jobs.models import TERMINAL, Job

logger = logging.getLogger(__name__)

HEARTBEAT_SECONDS = 15
_BATCH = 200
_RECONNECT_MILLISECONDS = 2000


@dataclass(frozen=True)
class _Look:
    """What one look at the database found; ``ended`` if there is nothing more to come."""

    events: Sequence[EventView]
    ended: bool


def event_stream(factory: sessionmaker[Session], job_id: str, after: int, poll_seconds: float) -> EventSourceResponse:
    """A response that sends the events after ``after`` as they come, and ends when the job has ended."""
    return EventSourceResponse(
        _events(factory, job_id, after, poll_seconds),
        ping=HEARTBEAT_SECONDS,
        headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"},
    )


async def _events(
    factory: sessionmaker[Session], job_id: str, after: int, poll_seconds: float
) -> AsyncIterator[ServerSentEvent]:
    yield ServerSentEvent(comment=f"events of {job_id}", retry=_RECONNECT_MILLISECONDS)
    while True:
        try:
            look = await run_in_threadpool(_look, factory, job_id, after)
        except SQLAlchemyError as error:  # the database is away; the client need not know, it misses nothing
            logger.warning("stream of %s: %s", job_id, error)
            look = _Look((), ended=False)
        for event in look.events:
            yield ServerSentEvent(event.model_dump_json(), event=event.type, id=str(event.id))
            after = event.id
        if look.ended:
            return
        if len(look.events) < _BATCH:
            await asyncio.sleep(poll_seconds)


def _look(factory: sessionmaker[Session], job_id: str, after: int) -> _Look:
    with factory() as session:
        # The state is read before the events: a job that has ended by then has had its last event.
        job = session.get(Job, job_id)
        ended = job is None or job.status in TERMINAL
        events = [EventView.of(event) for event in repository.list_events(session, job_id, after=after, limit=_BATCH)]
    return _Look(events, ended and len(events) < _BATCH)

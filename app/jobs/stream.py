"""A job's history as Server-Sent Events. A waiting stream holds no session and no thread."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session, sessionmaker
from sse_starlette import EventSourceResponse, ServerSentEvent
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.types import Receive, Scope, Send

from app.jobs import repository
from app.jobs.event_feed import EventFeed
from app.jobs.event_views import EventView, readable
from app.jobs.models import TERMINAL, Job
from app.problems import Problem, problem_response

logger = logging.getLogger(__name__)

HEARTBEAT_SECONDS = 15
_BATCH = 200
_RECONNECT_MILLISECONDS = 2000
_RETRY_SECONDS = 5


@dataclass(frozen=True)
class _Look:
    """Result of one query: the readable events up to ``last``.

    ``is_full``: there may be more; ``ended``: no more will follow.
    """

    events: Sequence[EventView]
    last: int
    is_full: bool
    ended: bool


class Streams:
    """The live streams of this process: their feed, and the number per key."""

    def __init__(self, feed: EventFeed, sessions: sessionmaker[Session], most_of_key: int, retry: float) -> None:
        self.feed = feed
        self._sessions = sessions
        self._most = most_of_key
        self._retry = retry
        self._open: Counter[str] = Counter()
        self._lock = threading.Lock()

    def open(self, job_id: str, after: int, key: str) -> EventSourceResponse:
        """A response that sends the events after ``after`` as they arrive, and ends when the job has ended.

        ``key``: owner of the stream. Raises a 429 problem ``too_many_streams`` if it has too many.
        """
        return _Stream(self, key, self._events(job_id, after))

    @contextmanager
    def one_of(self, key: str) -> Iterator[None]:
        """Count a stream of ``key`` while it is open. Raises a 429 problem ``too_many_streams``."""
        with self._lock:
            if self._open[key] >= self._most:
                raise Problem(
                    429,
                    "too_many_streams",
                    f"{self._most} event streams of yours are open, which is the limit.",
                    remedy="Close some, or read the history as JSON: the same request without text/event-stream.",
                    headers={"Retry-After": str(_RETRY_SECONDS)},
                )
            self._open[key] += 1
        try:
            yield
        finally:
            with self._lock:
                self._open[key] -= 1
                if not self._open[key]:
                    del self._open[key]

    async def _events(self, job_id: str, after: int) -> AsyncIterator[ServerSentEvent]:
        yield ServerSentEvent(comment=f"events of {job_id}", retry=_RECONNECT_MILLISECONDS)
        while True:  # past events
            try:
                look = await run_in_threadpool(_look, self._sessions, job_id, after)
            except SQLAlchemyError as error:  # the database is unavailable; the client misses nothing
                logger.warning("stream of %s: %s", job_id, error)
                await asyncio.sleep(self._retry)
                continue
            for event in look.events:
                yield _message(event)
            after = look.last
            if look.ended:
                return
            if not look.is_full:
                break
        with self.feed.follow(job_id, after) as subscription:  # new events
            while (events := await subscription.queue.get()) is not None:
                fresh = [event for event in events if event.id > after]
                for event in fresh:
                    yield _message(event)
                    after = event.id
                if fresh and fresh[-1].type in TERMINAL:
                    return


class _Stream(EventSourceResponse):
    """A response that counts as a stream of its key while it is being sent."""

    def __init__(self, streams: Streams, key: str, events: AsyncIterator[ServerSentEvent]) -> None:
        super().__init__(
            events,
            ping=HEARTBEAT_SECONDS,
            headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"},
        )
        self._streams = streams
        self._key = key

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it."""
        try:
            with self._streams.one_of(self._key):
                await super().__call__(scope, receive, send)
        except Problem as problem:
            await problem_response(Request(scope), problem)(scope, receive, send)


def _message(event: EventView) -> ServerSentEvent:
    return ServerSentEvent(event.model_dump_json(), event=event.type, id=str(event.id))


def _look(factory: sessionmaker[Session], job_id: str, after: int) -> _Look:
    with factory() as session:
        # The state is read before the events: a job that has ended by then has had its last event.
        job = session.get(Job, job_id)
        ended = job is None or job.status in TERMINAL
        events = repository.list_events(session, job_id, after=after, limit=_BATCH)
    is_full = len(events) == _BATCH
    return _Look(readable(events), events[-1].id if events else after, is_full, ended and not is_full)

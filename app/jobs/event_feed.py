"""Feeds every live stream of a process from one thread, however many streams there are.

On PostgreSQL the thread waits for a notification that each new event sends with its commit; on SQLite it checks the
last id every ``poll_seconds``. It then reads new events of the followed jobs, and passes them to the event loops of the
streams. In between it holds no transaction.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import psycopg
from sqlalchemy import Connection, Engine, and_, func, or_, select
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session, sessionmaker

from app.jobs.event_views import EventView, readable
from app.jobs.history import NOTIFIED
from app.jobs.models import Job, JobEvent

_LOG = logging.getLogger(__name__)
_GONE_SECONDS = 2.0
"""Seconds between checks whether a followed job was deleted, for which there is no event."""
_CHUNK = 100
_TOGETHER_SECONDS = 0.02
"""Notifications within this time cause one query."""


@dataclass(eq=False)
class Subscription:
    """Messages to one stream: lists of events of its job, and ``None`` once the job is gone."""

    job_id: str
    loop: asyncio.AbstractEventLoop
    queue: asyncio.Queue[list[EventView] | None] = field(default_factory=asyncio.Queue)


class EventFeed:
    """Starts its thread with the first subscription; :meth:`stop` ends it."""

    def __init__(self, engine: Engine, sessions: sessionmaker[Session], poll_seconds: float) -> None:
        self._sessions = sessions
        self._news: _News = _Notifications(engine) if engine.dialect.name == "postgresql" else _Polls(sessions)
        self._poll_seconds = poll_seconds
        self._changed = threading.Condition()
        self._followed: dict[str, set[Subscription]] = {}
        self._last: dict[str, int] = {}
        self._new: set[str] = set()
        self._stopping = False
        self._thread: threading.Thread | None = None

    @contextlib.contextmanager
    def follow(self, job_id: str, after: int) -> Iterator[Subscription]:
        """Subscribe the running event loop to the events of a job with ids above ``after``.

        Events up to ``after`` may be repeated, if another stream of the job is further behind.
        """
        subscription = Subscription(job_id, asyncio.get_running_loop())
        with self._changed:
            self._followed.setdefault(job_id, set()).add(subscription)
            self._last[job_id] = min(after, self._last.get(job_id, after))
            self._new.add(job_id)
            if self._thread is None and not self._stopping:
                self._thread = threading.Thread(target=self._run, name="event-feed", daemon=True)
                self._thread.start()
            self._changed.notify_all()
        try:
            yield subscription
        finally:
            with self._changed:
                followers = self._followed[job_id]
                followers.discard(subscription)
                if not followers:
                    del self._followed[job_id], self._last[job_id]

    def stop(self) -> None:
        """Return when nothing is in progress any more."""
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
            thread = self._thread
        if thread is not None:
            thread.join()

    def _run(self) -> None:
        gone_at = time.monotonic() + _GONE_SECONDS
        failures = 0
        while self._wait_for_followers():
            try:
                told = self._news.wait(self._poll_seconds, lambda: self._stopping or bool(self._new))
                due = time.monotonic() >= gone_at
                # Now and then all jobs are checked: SQLite reuses ids of deleted events, which a poll for greater ids
                # does not find.
                self._look(None if due else told, everything_gone=due)
                if due:
                    gone_at = time.monotonic() + _GONE_SECONDS
                failures = 0
            except (SQLAlchemyError, psycopg.Error) as error:  # clients miss nothing, so they are not told
                if failures == 0:
                    _LOG.warning("event feed: the database is unavailable: %s", error)
                failures += 1
                self._pause(failures)
            except Exception:  # noqa: BLE001 - no stream would hear of anything again
                _LOG.exception("event feed: unexpected error; it continues")
                failures += 1
                self._pause(failures)
        self._news.close()

    def _wait_for_followers(self) -> bool:
        with self._changed:
            self._changed.wait_for(lambda: self._stopping or self._followed)
            return not self._stopping

    def _pause(self, failures: int) -> None:
        self._news.close()
        with self._changed:
            self._new |= self._followed.keys()  # events in between notified nobody
            self._changed.wait_for(lambda: self._stopping, min(self._poll_seconds * failures, 5.0))

    def _look(self, told: set[str] | None, *, everything_gone: bool) -> None:
        """Distribute new events of the jobs ``told`` (``None``: of any), and the end of deleted jobs."""
        with self._changed:
            followed = set(self._followed)
            jobs = self._new & followed | (followed if told is None else told & followed)
            last = {job_id: self._last[job_id] for job_id in followed}
            self._new.clear()
        try:
            found, gone = self._read(jobs, last, followed if everything_gone else jobs)
        except BaseException:
            with self._changed:
                self._new |= jobs
            raise
        self._hand_out(found, gone)

    def _read(
        self, jobs: set[str], last: dict[str, int], asked: set[str]
    ) -> tuple[dict[str, list[JobEvent]], set[str]]:
        found: dict[str, list[JobEvent]] = {}
        there: set[str] = set()
        with self._sessions() as session:
            for chunk in _chunks(sorted(jobs)):
                newer = or_(*(and_(JobEvent.job_id == one, JobEvent.id > last[one]) for one in chunk))
                for event in session.scalars(select(JobEvent).where(newer).order_by(JobEvent.id)):
                    found.setdefault(event.job_id, []).append(event)
            for chunk in _chunks(sorted(asked)):
                there.update(session.scalars(select(Job.id).where(Job.id.in_(chunk))))
        return found, asked - there

    def _hand_out(self, found: dict[str, list[JobEvent]], gone: set[str]) -> None:
        views = {job_id: readable(events) for job_id, events in found.items()}
        parcels: dict[asyncio.AbstractEventLoop, list[tuple[Subscription, list[EventView] | None]]] = {}
        with self._changed:
            for job_id in found.keys() | gone:
                if job_id in found and job_id in self._last:  # unreadable events are passed, too
                    self._last[job_id] = max(self._last[job_id], found[job_id][-1].id)
                events = views.get(job_id)
                for one in self._followed.get(job_id, ()):
                    parcel = parcels.setdefault(one.loop, [])
                    parcel += [(one, events)] if events else []
                    parcel += [(one, None)] if job_id in gone else []
        for loop, parcel in parcels.items():
            with contextlib.suppress(RuntimeError):  # the loop is closed, and its streams with it
                loop.call_soon_threadsafe(_deliver, parcel)


def _deliver(parcel: Iterable[tuple[Subscription, list[EventView] | None]]) -> None:
    for subscription, events in parcel:
        subscription.queue.put_nowait(events)


def _chunks(items: Sequence[str]) -> Iterator[Sequence[str]]:
    return (items[start : start + _CHUNK] for start in range(0, len(items), _CHUNK))


class _News(Protocol):
    """Source of notifications about new events."""

    def wait(self, seconds: float, at_once: Callable[[], bool]) -> set[str] | None:
        """The jobs with new events, after at most about ``seconds``; ``None``: any may have some.

        Returns early if ``at_once()``.
        """

    def close(self) -> None:
        """Release held resources; the next :meth:`wait` acquires them again."""


class _Polls:
    """Polls the ids of events, which a database with one writer at a time makes visible in order."""

    def __init__(self, sessions: sessionmaker[Session]) -> None:
        self._sessions = sessions
        self._last: int | None = None

    def wait(self, seconds: float, at_once: Callable[[], bool]) -> set[str] | None:
        until = time.monotonic() + seconds
        while not at_once() and (left := until - time.monotonic()) > 0:
            time.sleep(min(left, 0.05))
        with self._sessions() as session:
            if self._last is None:
                self._last = session.scalar(select(func.max(JobEvent.id))) or 0
                return None
            newer = select(JobEvent.id, JobEvent.job_id).where(JobEvent.id > self._last).order_by(JobEvent.id)
            rows = session.execute(newer).all()
        if rows:
            self._last = rows[-1].id
        return {row.job_id for row in rows}

    def close(self) -> None:
        self._last = None


class _Notifications:
    """Waits for PostgreSQL's notifications on a separate connection."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._connection: Connection | None = None

    def wait(self, seconds: float, at_once: Callable[[], bool]) -> set[str] | None:
        if self._connection is None:
            self._listen()
            return None
        connection = self._driver
        until = time.monotonic() + seconds
        told: set[str] = set()
        while not told and not at_once() and (left := until - time.monotonic()) > 0:
            told |= {one.payload for one in connection.notifies(timeout=min(left, 0.05), stop_after=1)}
        if told:
            told |= {one.payload for one in connection.notifies(timeout=_TOGETHER_SECONDS)}
        return told

    def close(self) -> None:
        if self._connection is not None:
            with contextlib.suppress(SQLAlchemyError, psycopg.Error):
                self._connection.close()
            self._connection = None

    @property
    def _driver(self) -> psycopg.Connection:
        assert self._connection is not None
        connection = self._connection.connection.dbapi_connection
        assert isinstance(connection, psycopg.Connection)
        return connection

    def _listen(self) -> None:
        connection = self._engine.connect().execution_options(isolation_level="AUTOCOMMIT")
        connection.detach()  # from the pool, which would pass it on once it is closed
        connection.exec_driver_sql(f"LISTEN {NOTIFIED}")
        self._connection = connection

"""Dependencies in the signatures of endpoints."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from typing import Annotated, cast

from fastapi import Depends, Request
from sqlalchemy.orm import Session, sessionmaker
from starlette.concurrency import run_in_threadpool

from app.jobs.inspection import Inspector
from app.jobs.stream import Streams
from app.keys.binding import is_own_name
from app.settings import Settings
from app.storage.obsolete import deleting
from app.store.base import ArtifactStore

_PRESENCE_SECONDS = 0.5
"""Seconds between checks whether a waiting client is still connected."""


@dataclass(frozen=True)
class SubmitParts:
    """Parts of the service and of the request that submits and estimates use. They are one dependency, because FastAPI
    takes as long to resolve one as a database to insert a row.

    ``client_left``: whether the client has gone; to be called in a thread.
    """

    settings: Settings
    sessions: sessionmaker[Session]
    reading: sessionmaker[Session]
    inspector: Inspector
    client_left: Callable[[], bool]
    traceparent: str | None


# These are coroutines, because plain functions would each run in a thread.
async def _settings(request: Request) -> Settings:
    return cast(Settings, request.app.state.settings)


async def _session_factory(request: Request) -> sessionmaker[Session]:
    return cast("sessionmaker[Session]", request.app.state.session_factory)


async def _store(request: Request) -> ArtifactStore:
    return cast(ArtifactStore, request.app.state.store)


async def _session(request: Request) -> AsyncIterator[Session]:
    session: Session = request.app.state.session_factory()
    try:
        yield session
        await run_in_threadpool(session.commit)  # not reached when the endpoint raised: closing rolls back
    finally:
        await run_in_threadpool(session.close)


def _deleting_session(request: Request) -> Iterator[Session]:
    state = request.app.state
    state.store.check()
    with deleting(state.session_factory, state.store) as session:
        yield session


async def _read_session(request: Request) -> AsyncIterator[Session]:
    session: Session = request.app.state.read_sessions()
    try:
        yield session
    finally:
        if session.in_transaction():
            await run_in_threadpool(session.close)
        else:
            session.close()


async def _inspector(request: Request) -> Inspector:
    return cast(Inspector, request.app.state.inspector)


async def _streams(request: Request) -> Streams:
    return cast(Streams, request.app.state.streams)


async def _traceparent(request: Request) -> str | None:
    return cast("str | None", request.app.state.traces.current())


class ClientWatch:
    """Watches the connection of a client that waits, from the first call of :meth:`left` on: most requests end before.

    The body must have been read.
    """

    def __init__(self, request: Request) -> None:
        self._request = request
        self._loop = asyncio.get_running_loop()
        self._watching: asyncio.Task[None] | None = None
        self._asked = self._left = False

    def left(self) -> bool:
        """Whether the client has closed its connection; to be called by another thread than the event loop's."""
        if not self._asked:
            self._asked = True
            self._loop.call_soon_threadsafe(self._start)
        return self._left

    def _start(self) -> None:
        self._watching = self._loop.create_task(self._watch())

    async def _watch(self) -> None:
        while not self._left:
            await asyncio.sleep(_PRESENCE_SECONDS)
            self._left = await self._request.is_disconnected()  # also once the response was sent


async def _submit_parts(request: Request) -> SubmitParts:
    state = request.app.state
    return SubmitParts(
        settings=state.settings, sessions=state.session_factory, reading=state.read_sessions,
        inspector=state.inspector, client_left=ClientWatch(request).left, traceparent=state.traces.current(),
    )  # fmt: skip


async def _base_url(request: Request) -> str:
    settings: Settings = request.app.state.settings
    if settings.public_url:
        return settings.public_url.rstrip("/")
    server = request.scope.get("server")
    if not is_own_name(settings, request.base_url.hostname, server[0] if server else None):
        return ""  # the sender may have made the name up
    return str(request.base_url).rstrip("/")


SettingsDep = Annotated[Settings, Depends(_settings)]
SessionFactoryDep = Annotated["sessionmaker[Session]", Depends(_session_factory)]
"""For an endpoint that must end its transaction before it returns."""
StoreDep = Annotated[ArtifactStore, Depends(_store)]
BaseUrlDep = Annotated[str, Depends(_base_url)]
"""Base URL for users, without a trailing slash; empty if it is not known for sure."""
SessionDep = Annotated[Session, Depends(_session, scope="function")]
"""A session that is committed when the endpoint returns, before its response is sent, and rolled back when it raises.
"""
DeletingSessionDep = Annotated[Session, Depends(_deleting_session, scope="function")]
"""As :data:`SessionDep`, for deletions: refused if the store is unavailable; files are deleted after the commit."""
ReadSessionDep = Annotated[Session, Depends(_read_session, scope="function")]
"""A read-only session, which blocks no writer."""
TraceparentDep = Annotated[str | None, Depends(_traceparent)]
"""Trace context of the request, if traces are enabled."""
StreamsDep = Annotated[Streams, Depends(_streams)]
InspectorDep = Annotated[Inspector, Depends(_inspector)]
SubmitPartsDep = Annotated[SubmitParts, Depends(_submit_parts)]

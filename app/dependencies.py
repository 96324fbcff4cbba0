"""What endpoints ask for in their signatures."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from threading import Event
from typing import Annotated, cast

from fastapi import Depends, Request
from sqlalchemy.orm import Session, sessionmaker

from app.jobs.inspection import Inspector
from app.jobs.stream import Streams
from app.settings import Settings
from app.store.base import ArtifactStore

_PRESENCE_SECONDS = 0.5
"""How often it is looked whether a client that waits is still there."""


def _settings(request: Request) -> Settings:
    return cast(Settings, request.app.state.settings)


def _session_factory(request: Request) -> sessionmaker[Session]:
    return cast("sessionmaker[Session]", request.app.state.session_factory)


def _store(request: Request) -> ArtifactStore:
    return cast(ArtifactStore, request.app.state.store)


def _session(request: Request) -> Iterator[Session]:
    with _session_factory(request)() as session:
        yield session
        session.commit()  # not reached when the endpoint raised: closing rolls back


def _read_session(request: Request) -> Iterator[Session]:
    factory: sessionmaker[Session] = request.app.state.read_sessions
    with factory() as session:
        yield session


def _streams(request: Request) -> Streams:
    return cast(Streams, request.app.state.streams)


def _inspector(request: Request) -> Inspector:
    return cast(Inspector, request.app.state.inspector)


async def _client_left(request: Request) -> AsyncIterator[Event]:
    """An event that is set once the client has closed its connection."""
    left = Event()

    async def watch() -> None:
        while not left.is_set():
            await asyncio.sleep(_PRESENCE_SECONDS)
            if await request.is_disconnected():
                left.set()

    watching = asyncio.create_task(watch())
    try:
        yield left
    finally:
        watching.cancel()


def _base_url(request: Request) -> str:
    settings = _settings(request)
    return (settings.public_url or str(request.base_url)).rstrip("/")


SettingsDep = Annotated[Settings, Depends(_settings)]
StoreDep = Annotated[ArtifactStore, Depends(_store)]
BaseUrlDep = Annotated[str, Depends(_base_url)]
"""Where users reach the service, without a slash at the end."""
SessionDep = Annotated[Session, Depends(_session, scope="function")]
"""A session that is committed when the endpoint returns, before its answer is sent, and rolled back when it raises."""
ReadSessionDep = Annotated[Session, Depends(_read_session, scope="function")]
"""A session that can only read, and makes no writer wait."""
StreamsDep = Annotated[Streams, Depends(_streams)]
InspectorDep = Annotated[Inspector, Depends(_inspector)]
ClientLeftDep = Annotated[Event, Depends(_client_left, scope="function")]
"""An event that is set once the client has gone."""

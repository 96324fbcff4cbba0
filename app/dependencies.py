"""What endpoints ask for in their signatures."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, cast

from fastapi import Depends, Request
from sqlalchemy.orm import Session, sessionmaker

from app.settings import Settings
from app.store.base import ArtifactStore


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


def _base_url(request: Request) -> str:
    settings = _settings(request)
    return (settings.public_url or str(request.base_url)).rstrip("/")


SettingsDep = Annotated[Settings, Depends(_settings)]
SessionFactoryDep = Annotated["sessionmaker[Session]", Depends(_session_factory)]
StoreDep = Annotated[ArtifactStore, Depends(_store)]
BaseUrlDep = Annotated[str, Depends(_base_url)]
"""Where users reach the service, without a slash at the end."""
SessionDep = Annotated[Session, Depends(_session, scope="function")]
"""A session that is committed when the endpoint returns, before its answer is sent, and rolled back when it raises."""

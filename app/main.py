"""The HTTP application."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI
from fastapi_offline import FastAPIOffline
from prometheus_client import CollectorRegistry

from app.database import create_database_engine, create_session_factory
from app.metrics import HttpMetrics
from app.problems import install_problem_handlers
from app.request_context import RequestContext
from app.settings import Settings, get_settings
from app.store import open_store


def create_app(settings: Settings | None = None) -> FastAPI:
    """The service as an ASGI application on the parts that ``settings`` name.

    ``app.state`` carries ``settings``, ``engine``, ``session_factory``, ``store`` and ``registry`` (Prometheus).
    """
    settings = settings or get_settings()
    app: FastAPI = FastAPIOffline(redoc_url=None, title="QPruner", lifespan=_lifespan)
    state = app.state
    state.settings = settings
    state.engine = create_database_engine(settings.resolved_database_url)
    state.session_factory = create_session_factory(state.engine)
    state.store = open_store(settings)
    state.registry = CollectorRegistry()
    install_problem_handlers(app)
    app.add_middleware(RequestContext, settings=settings, metrics=HttpMetrics(state.registry))
    return app


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    yield
    app.state.engine.dispose()

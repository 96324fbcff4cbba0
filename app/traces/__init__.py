"""Traces from a request to the stages of its job, where the operator wants them.

This is all there is of it without ``QPRUNER_TRACES_ENDPOINT``: a :class:`Traces` that does nothing. Only
:func:`open_traces` imports OpenTelemetry, the extra ``otel``, and only where there is an endpoint.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Engine

from app.settings import Settings
from qpruner_core.errors import QPrunerError


class ExtraMissingError(QPrunerError):
    """A setting needs an optional part that is not installed."""

    code = "extra_missing"
    exit_code = 2


class AttemptTrace:
    """Trace of an attempt at a job; safe to share between threads."""

    def observe(self, line: object) -> None:
        """Take note of a line that the job's process has just written."""

    def end(self, outcome: str) -> None:
        """The attempt is over: ``settled``, or why the worker stopped it."""


class Traces:
    """Does nothing; what does something is :class:`app.traces.spans.OpenTelemetryTraces`.

    A trace context travels as a ``traceparent`` of W3C Trace Context: in the row of the job, and in the headers of the
    message that wakes a worker.
    """

    are_kept: bool = False

    def of_fastapi(self) -> dict[str, Any]:
        """Arguments of ``FastAPI`` with which it makes a span of each request."""
        return {}

    def watch(self, engine: Engine) -> None:
        """Make a span of each query and each request to a hub that belongs to a trace."""

    def current(self) -> str | None:
        """Context of the current span, to be kept with the job."""
        return None

    @contextmanager
    def wake_up(self, job_id: str, traceparent: str | None) -> Iterator[Mapping[str, str] | None]:
        """A span around the sending of a message; gives the message's headers."""
        yield None

    def attempt(
        self, job_id: str, number: int, config: Mapping[str, Any], traceparent: str | None, woken_by: str | None
    ) -> AttemptTrace:
        """A span of an attempt at the job whose row has ``traceparent``; ``woken_by``: that of the worker's message,
        which may be of another job."""
        return AttemptTrace()

    def close(self) -> None:
        """Send what is left."""


def open_traces(settings: Settings, service: str) -> Traces:
    """The traces that ``settings`` ask for, of a process that calls itself ``service``.

    Raises:
        ExtraMissingError: the extra ``otel`` is not installed.
    """
    if settings.traces_endpoint is None:
        return Traces()
    try:
        from app.traces.spans import OpenTelemetryTraces
    except ModuleNotFoundError as error:
        raise ExtraMissingError(
            f"Traces need a package that is not installed: {error.name}.",
            field="traces_endpoint",
            remedy="Install qpruner[otel], or unset QPRUNER_TRACES_ENDPOINT.",
        ) from error
    return OpenTelemetryTraces(settings, service)

"""A span of each query that belongs to a trace.

OpenTelemetry's own instrumentation refuses SQLAlchemy 2.1.
"""

from __future__ import annotations

from typing import Any

from opentelemetry import trace
from opentelemetry.trace import SpanKind, StatusCode, Tracer
from sqlalchemy import Connection, Engine, ExceptionContext, event


class QuerySpans:
    """Statements with their placeholders, and no value of a parameter."""

    def __init__(self, tracer: Tracer) -> None:
        self._tracer = tracer

    def watch(self, engine: Engine) -> None:
        """Make a span of every query of ``engine`` from now on."""
        event.listen(engine, "before_cursor_execute", self._before)
        event.listen(engine, "after_cursor_execute", self._after)
        event.listen(engine, "handle_error", self._failed)

    def _before(self, connection: Connection, cursor: Any, statement: str, given: Any, context: Any, many: Any) -> None:
        if context is None or not trace.get_current_span().is_recording():
            return
        context._qpruner_span = self._tracer.start_span(
            statement.split(maxsplit=1)[0].upper(), kind=SpanKind.CLIENT,
            attributes={"db.system.name": connection.dialect.name, "db.query.text": statement},
        )  # fmt: skip

    def _after(self, connection: Connection, cursor: Any, statement: str, given: Any, context: Any, many: Any) -> None:
        span = getattr(context, "_qpruner_span", None)
        if span is not None:
            span.end()

    def _failed(self, failure: ExceptionContext) -> None:
        span = getattr(failure.execution_context, "_qpruner_span", None)
        if span is not None:
            span.set_status(StatusCode.ERROR)
            span.set_attribute("error.type", type(failure.original_exception).__name__)
            span.end()

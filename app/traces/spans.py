"""Traces by OpenTelemetry, sent to a collector by OTLP over HTTP.

Attributes name jobs, models, targets, stages and sizes: no text of a dataset, no query string, no message of an error.
The exporter reads its own ``OTEL_EXPORTER_OTLP_*`` variables, such as the headers that a collector asks for.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from typing import Any
from urllib.parse import urlsplit

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.instrumentation.httpx import HTTPXClientInstrumentor
from opentelemetry.sdk.resources import SERVICE_INSTANCE_ID, SERVICE_NAME, SERVICE_VERSION, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.sampling import Decision, ParentBased, Sampler, SamplingResult, TraceIdRatioBased
from opentelemetry.trace import Link, Span, SpanKind, Tracer
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from opentelemetry.util.types import Attributes
from sqlalchemy import Engine

from app.jobs.lease import worker_name
from app.settings import Settings
from app.traces import AttemptTrace, Traces
from app.traces.attempt_spans import AttemptSpans
from app.traces.query_spans import QuerySpans

_EXPORT_SECONDS = 5
_UNTRACED = ("/store/", "/healthz", "/readyz", "/metrics", "/guide/")
"""Paths whose requests are polled or downloads; the query of a signed URL is a secret."""
_W3C = TraceContextTextMapPropagator()


class OpenTelemetryTraces(Traces):
    """Spans of this process, which is ``service`` to whoever looks at them."""

    are_kept = True

    def __init__(self, settings: Settings, service: str) -> None:
        assert settings.traces_endpoint is not None
        resource = Resource.create({
            SERVICE_NAME: service, SERVICE_VERSION: version("qpruner"), SERVICE_INSTANCE_ID: worker_name(os.getpid()),
        })  # fmt: skip
        sampler = ParentBased(root=_WithoutPolling(settings.traces_share))
        endpoint = f"{settings.traces_endpoint.rstrip('/')}/v1/traces"
        self._provider = TracerProvider(resource=resource, sampler=sampler)
        self._provider.add_span_processor(
            BatchSpanProcessor(OTLPSpanExporter(endpoint=endpoint, timeout=_EXPORT_SECONDS))
        )
        self._tracer: Tracer = self._provider.get_tracer("qpruner", version("qpruner"))

    def of_fastapi(self) -> dict[str, Any]:
        """Arguments of ``FastAPI`` with which it makes a span of each request."""
        return {
            "telemetry": {
                "tracer_provider": self._provider, "tracing": True, "metrics": False, "logs": False,
                "operation_spans": False, "auto_configure": False, "exclude": _is_untraced,
            }
        }  # fmt: skip

    def watch(self, engine: Engine) -> None:
        """Make a span of each query and each request to a hub that belongs to a trace."""
        QuerySpans(self._tracer).watch(engine)
        HTTPXClientInstrumentor().instrument(tracer_provider=self._provider, request_hook=_name_host_alone)

    def current(self) -> str | None:
        """Context of the current span, to be kept with the job."""
        return _written(None)

    @contextmanager
    def wake_up(self, job_id: str, traceparent: str | None) -> Iterator[Mapping[str, str] | None]:
        """A span around the sending of a message; gives the message's headers."""
        if traceparent is None:
            yield None
            return
        with self._tracer.start_as_current_span(
            "wake a worker", _read(traceparent), SpanKind.PRODUCER, {"qpruner.job.id": job_id}
        ):
            found = _written(None)
            yield None if found is None else {"traceparent": found}

    def attempt(
        self, job_id: str, number: int, config: Mapping[str, Any], traceparent: str | None, woken_by: str | None
    ) -> AttemptTrace:
        """A span of an attempt at the job whose row has ``traceparent``; ``woken_by``: that of the worker's message,
        which may be of another job."""
        own, waking = _read(traceparent), _read(woken_by)
        same = _trace_id(own) == _trace_id(waking)
        links = [] if same or woken_by is None else [Link(trace.get_current_span(waking).get_span_context())]
        attributes: dict[str, Any] = {
            "qpruner.job.id": job_id, "qpruner.attempt": number,
            "qpruner.model": str(config.get("model")), "qpruner.target": str(config.get("target")),
        }  # fmt: skip
        span = self._tracer.start_span(
            "run a job", waking if same and woken_by is not None else own, SpanKind.CONSUMER, attributes, links
        )
        return AttemptSpans(self._tracer, span, attributes)

    def close(self) -> None:
        """Send what is left."""
        self._provider.shutdown()


class _WithoutPolling(Sampler):
    """Begins traces with a share of requests and jobs, and with no request of the service's own, as of a webhook."""

    def __init__(self, share: float) -> None:
        self._share = TraceIdRatioBased(share)

    def should_sample(
        self,
        parent_context: Context | None,
        trace_id: int,
        name: str,
        kind: SpanKind | None = None,
        attributes: Attributes = None,
        links: Sequence[Link] | None = None,
        trace_state: Any = None,
    ) -> SamplingResult:
        """Whether a trace begins with this span."""
        if kind == SpanKind.CLIENT:
            return SamplingResult(Decision.DROP)
        return self._share.should_sample(parent_context, trace_id, name, kind, attributes, links, trace_state)

    def get_description(self) -> str:
        """Its name."""
        return f"QPruner{{{self._share.get_description()}}}"


def _is_untraced(scope: Mapping[str, Any]) -> bool:
    return str(scope.get("path", "")).startswith(_UNTRACED)


def _name_host_alone(span: Span, request: Any) -> None:
    """Path and query of another's address may be secrets."""
    url = urlsplit(str(request.url))
    host = f"{url.scheme}://{url.hostname}"
    for name in ("http.url", "url.full"):
        span.set_attribute(name, host)


def _read(traceparent: str | None) -> Context:
    return _W3C.extract({} if traceparent is None else {"traceparent": traceparent}, Context())


def _trace_id(context: Context) -> int:
    return trace.get_current_span(context).get_span_context().trace_id


def _written(context: Context | None) -> str | None:
    carrier: dict[str, str] = {}
    _W3C.inject(carrier, context)
    return carrier.get("traceparent")

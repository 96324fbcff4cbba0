"""Figures for Prometheus: requests of this process, and jobs as the database knows them."""

from __future__ import annotations

from typing import Any

from prometheus_client import CollectorRegistry, Counter, Histogram
from starlette.types import Scope


class HttpMetrics:
    """Requests by method, route template and status; their latency by method and route template."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._requests = Counter(
            "qpruner_http_requests", "Requests answered.", ("method", "route", "status"), registry=registry
        )
        self._seconds = Histogram(
            "qpruner_http_request_seconds", "Seconds until the answer was sent.", ("method", "route"), registry=registry
        )

    def observe(self, scope: Scope, status: int, seconds: float) -> None:
        """Count one request; ``status`` 0 means that the connection broke off before an answer."""
        route: Any = scope.get("route")
        # A path that no route matched is not a label: anybody could make as many as they like.
        template = getattr(route, "path_format", None) or getattr(route, "path", None) or "unmatched"
        method = scope["method"] if scope["method"] in _METHODS else "other"
        self._requests.labels(method, template, str(status)).inc()
        self._seconds.labels(method, template).observe(seconds)


_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})

"""Prometheus metrics: requests of this process, and jobs from the database, of all tenants together."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any, get_args

from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.core import GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector
from sqlalchemy import ColumnElement, Select, case, func, select
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session, sessionmaker
from starlette.types import Scope

from app.database import utc_now
from app.jobs.models import Job, JobEvent, JobStatus, StageResult

logger = logging.getLogger(__name__)

_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_QUEUEING_EVENTS = ("queued", "retried", "attempt_lost")
_BUCKETS = (1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 3600.0, 14_400.0, 86_400.0)


class HttpMetrics:
    """Requests by method, route template and status; their latency by method and route template."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._requests = Counter("qpruner_http_requests", "Requests.", ("method", "route", "status"), registry=registry)
        self._seconds = Histogram(
            "qpruner_http_request_seconds",
            ("Seconds until the response was sent."),
            ("method", "route"),
            registry=registry,
        )

    def observe(self, scope: Scope, status: int, seconds: float) -> None:
        """Count one request; ``status`` 0 means that the connection closed before a response."""
        route: Any = scope.get("route")
        # A path without a route is not a label: anyone could create arbitrarily many.
        template = getattr(route, "path_format", None) or getattr(route, "path", None) or "unmatched"
        method = scope["method"] if scope["method"] in _METHODS else "other"
        self._requests.labels(method, template, str(status)).inc()
        self._seconds.labels(method, template).observe(seconds)


class JobCollector(Collector):
    """Reads jobs, queue and stages from the database at each scrape, so that they survive restarts."""

    def __init__(self, factory: sessionmaker[Session]) -> None:
        self._factory = factory

    def collect(self) -> Iterator[Metric]:
        """The metrics; only ``qpruner_database_up 0`` while the database is unavailable."""
        try:
            with self._factory() as session:
                families = [
                    _jobs(session), _oldest_queued(session), _waits(session), _stage_seconds(session), _reused(session),
                ]  # fmt: skip
        except SQLAlchemyError as error:
            logger.warning("metrics: %s", error)
            families = []
        yield GaugeMetricFamily("qpruner_database_up", "1 if the database responds.", value=float(bool(families)))
        yield from families


def _jobs(session: Session) -> Metric:
    rows = session.execute(select(Job.status, func.count()).group_by(Job.status))
    counts = dict(rows.all())
    family = GaugeMetricFamily("qpruner_jobs", "Jobs by status.", labels=("status",))
    for status in get_args(JobStatus):
        family.add_metric((status,), counts.get(status, 0))
    return family


def _oldest_queued(session: Session) -> Metric:
    queued = (
        select(func.max(JobEvent.created_at).label("since"))
        .join(Job, Job.id == JobEvent.job_id)
        .where(Job.status == "queued", JobEvent.type.in_(_QUEUEING_EVENTS))
        .group_by(Job.id)
        .subquery()
    )
    since = session.scalar(select(func.min(queued.c.since)))
    age = max(0.0, (utc_now() - since).total_seconds()) if since else 0.0
    return GaugeMetricFamily("qpruner_oldest_queued_seconds", "Waiting time of the first job in the queue.", value=age)


def _stage_seconds(session: Session) -> Metric:
    family = HistogramMetricFamily("qpruner_stage_seconds", "Seconds of finished stages.", labels=("stage",))
    query = _counted(StageResult.seconds.expression).add_columns(StageResult.stage).group_by(StageResult.stage)
    for *figures, stage in session.execute(query.where(StageResult.reused_from.is_(None))):
        _add(family, (stage,), figures)
    return family


def _waits(session: Session) -> Metric:
    family = HistogramMetricFamily(
        "qpruner_queue_wait_seconds", "Seconds that jobs waited before their latest start.", labels=()
    )
    query = _counted(Job.waited.expression).where(Job.waited.is_not(None))
    _add(family, (), list(session.execute(query).one()))
    return family


def _counted(seconds: ColumnElement[Any]) -> Select[Any]:
    """How many rows are in each bucket or below, how many there are, and the sum."""
    below = [func.sum(case((seconds <= bucket, 1), else_=0)) for bucket in _BUCKETS]
    return select(*below, func.count(), func.sum(seconds))


def _add(family: HistogramMetricFamily, labels: tuple[str, ...], figures: list[Any]) -> None:
    *below, count, total = (figure or 0 for figure in figures)
    buckets = [(str(bucket), number) for bucket, number in zip(_BUCKETS, below, strict=True)]
    family.add_metric(labels, buckets=[*buckets, ("+Inf", count)], sum_value=total)


def _reused(session: Session) -> Metric:
    family = GaugeMetricFamily("qpruner_stages_reused", "Stages reused from another job.", labels=("stage",))
    query = select(StageResult.stage, func.count()).where(StageResult.reused_from.is_not(None))
    for stage, count in session.execute(query.group_by(StageResult.stage)):
        family.add_metric((stage,), count)
    return family

"""Spans of an attempt at a job and of its stages, from what the job's process reports.

The process itself has no access to a collector, as it has none to database and store: its supervisor makes the spans,
as its lines arrive.
"""

from __future__ import annotations

import threading
import time
from typing import Any

from opentelemetry.trace import Span, StatusCode, Tracer, set_span_in_context

from app.traces import AttemptTrace
from qpruner_core.events import StageFinished, StageName, StageStarted


class AttemptSpans(AttemptTrace):
    """``span`` is that of the attempt, ``attributes`` what its stages have in common with it."""

    def __init__(self, tracer: Tracer, span: Span, attributes: dict[str, Any]) -> None:
        self._tracer = tracer
        self._span = span
        self._attributes = attributes
        self._stages: dict[StageName, Span] = {}
        self._lock = threading.Lock()
        self._ended = False

    def observe(self, line: object) -> None:
        """Take note of a line that the job's process has just written."""
        with self._lock:
            if self._ended:
                return
            if isinstance(line, StageStarted):
                self._stages[line.stage] = self._begin(line.stage)
            elif isinstance(line, StageFinished):
                self._finish(line)
            elif getattr(line, "type", None) == "error":
                self._span.set_status(StatusCode.ERROR)
                self._span.set_attribute("error.type", str(getattr(line, "code", "")))

    def end(self, outcome: str) -> None:
        """The attempt is over: ``settled``, or why the worker stopped it."""
        with self._lock:
            self._ended = True
            for span in self._stages.values():
                span.set_status(StatusCode.ERROR)
                span.end()
            if outcome != "settled":
                self._span.set_status(StatusCode.ERROR)
            self._span.set_attribute("qpruner.outcome", outcome)
            self._span.end()

    def _begin(self, stage: StageName) -> Span:
        return self._tracer.start_span(
            f"stage {stage}", set_span_in_context(self._span), attributes=self._attributes | {"qpruner.stage": stage}
        )

    def _finish(self, line: StageFinished) -> None:
        span = self._stages.pop(line.stage, None)
        if span is None:  # taken as it was from an earlier attempt or another job
            span = self._begin(line.stage)
        span.set_attribute("qpruner.stage.bytes", sum(file.bytes for file in line.files))
        span.set_attribute("qpruner.stage.resumed", line.resumed)
        span.end(time.time_ns())

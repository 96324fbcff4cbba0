"""How long the database takes."""

from __future__ import annotations

import time
from typing import Any

from prometheus_client import CollectorRegistry, Histogram
from sqlalchemy import Connection, Engine, event

_BUCKETS = (0.001, 0.005, 0.02, 0.1, 0.5, 2.0, 10.0)
_BEGUN = "qpruner_begun"


class DatabaseMetrics:
    """Seconds of queries, and of transactions by access (read or write), in ``registry``.

    A transaction's seconds include the wait for the right to write, which SQLite gives to one at a time.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        self._queries = Histogram(
            "qpruner_database_query_seconds", "Seconds of a query.", registry=registry, buckets=_BUCKETS
        )
        self._transactions = Histogram(
            "qpruner_database_transaction_seconds", "Seconds of a transaction.", ("access",), registry=registry,
            buckets=_BUCKETS,
        )  # fmt: skip

    def watch(self, engine: Engine) -> None:
        """Measure what goes through ``engine`` from now on."""
        event.listen(engine, "begin", self._begin, insert=True)  # before SQLite's wait for its turn
        event.listen(engine, "commit", self._end)
        event.listen(engine, "rollback", self._end)
        event.listen(engine, "before_cursor_execute", self._before)
        event.listen(engine, "after_cursor_execute", self._after)

    def _begin(self, connection: Connection) -> None:
        connection.info[_BEGUN] = time.perf_counter()

    def _end(self, connection: Connection) -> None:
        begun = connection.info.pop(_BEGUN, None)
        if begun is not None:
            access = "read" if connection.get_execution_options().get("read_only", False) else "write"
            self._transactions.labels(access).observe(time.perf_counter() - begun)

    def _before(self, connection: Connection, cursor: Any, statement: Any, given: Any, context: Any, many: Any) -> None:
        if context is not None:
            context._qpruner_begun = time.perf_counter()

    def _after(self, connection: Connection, cursor: Any, statement: Any, given: Any, context: Any, many: Any) -> None:
        begun = getattr(context, "_qpruner_begun", None)
        if begun is not None:
            self._queries.observe(time.perf_counter() - begun)

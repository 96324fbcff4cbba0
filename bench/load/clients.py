"""Clients that send one request after the other, and how long each took."""

from __future__ import annotations

import http.client
import json
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit


@dataclass
class Timings:
    """Seconds of each request, of how many seconds altogether, and statuses that were not expected."""

    seconds: list[float] = field(default_factory=list)
    elapsed: float = 0.0
    failures: dict[int, int] = field(default_factory=dict)

    @property
    def rate(self) -> float:
        """Requests per second."""
        return len(self.seconds) / self.elapsed if self.elapsed else 0.0

    def quantile(self, share: float) -> float:
        """Milliseconds that a ``share`` of the requests did not exceed."""
        ordered = sorted(self.seconds)
        return 1000 * ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else float("nan")

    def __add__(self, other: Timings) -> Timings:
        failures = {
            status: self.failures.get(status, 0) + other.failures.get(status, 0)
            for status in {*self.failures, *other.failures}
        }
        return Timings(self.seconds + other.seconds, self.elapsed + other.elapsed, failures)

    def __str__(self) -> str:
        failed = f"; FAILED {self.failures}" if self.failures else ""
        return (
            f"{self.rate:6.1f}/s, p50 {self.quantile(0.5):5.0f} ms, p99 {self.quantile(0.99):5.0f} ms "
            f"({len(self.seconds)} requests{failed})"
        )


class Client:
    """One connection that is kept open."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=120)

    def send(
        self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None
    ) -> tuple[int, bytes]:
        """Status and body of the answer."""
        content = None if body is None else json.dumps(body)
        kind = {} if body is None else {"Content-Type": "application/json"}
        self._connection.request(method, path, content, {**kind, **(headers or {})})
        answer = self._connection.getresponse()
        return answer.status, answer.read()


def closed_loop(
    url: str, clients: int, seconds: float, request: Callable[[Client], int], *, wanted: int = 202
) -> Timings:
    """``clients`` threads that call ``request`` one time after the other for ``seconds``; it returns the status."""
    timings = Timings()
    lock = threading.Lock()
    begin = time.perf_counter()

    def run() -> None:
        client, taken, failures = Client(url), [], dict[int, int]()
        while (now := time.perf_counter()) - begin < seconds:
            status = request(client)
            taken.append(time.perf_counter() - now)
            if status != wanted:
                failures[status] = failures.get(status, 0) + 1
        with lock:
            timings.seconds += taken
            for status, count in failures.items():
                timings.failures[status] = timings.failures.get(status, 0) + count

    threads = [threading.Thread(target=run) for _ in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    timings.elapsed = time.perf_counter() - begin
    return timings

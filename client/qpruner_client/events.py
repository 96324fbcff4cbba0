"""A job's history as it happens, over as many connections as needed."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from typing import TypeAlias

import httpx

from qpruner_client import calls
from qpruner_client.connection import AsyncConnection, Connection, Server
from qpruner_client.errors import ClientError, WaitTimeoutError, error_of
from qpruner_client.models import (
    AttemptLostEvent,
    CancelledEvent,
    CancelRequestedEvent,
    EventView,
    FailedEvent,
    OtherEvent,
    QueuedEvent,
    RetriedEvent,
    StageFinishedEvent,
    StageProgressEvent,
    StageStartedEvent,
    StartedEvent,
    SucceededEvent,
    WarningEvent,
)
from qpruner_client.retries import retry_after

JobEvent: TypeAlias = (
    QueuedEvent | StartedEvent | StageStartedEvent | StageProgressEvent | StageFinishedEvent | WarningEvent
    | AttemptLostEvent | CancelRequestedEvent | CancelledEvent | FailedEvent | SucceededEvent | RetriedEvent
    | OtherEvent
)  # fmt: skip
"""An event; an :class:`OtherEvent` for types unknown to this release."""

_SILENCE_SECONDS = 60.0  # the service sends a comment every 15 s
_TRY_AGAIN = (429, 502, 503, 504)
_ENDED = 204
_LAST = ("succeeded", "failed", "cancelled")


class _Follower:
    """Position of a follower of a job, and how long it has received nothing."""

    def __init__(self, server: Server, job_id: str, after: int, timeout: float | None) -> None:
        self.path = calls.job_path(job_id, "events")
        self._server = server
        self._job_id = job_id
        self._last = after
        self._fresh = _Data()
        self._over = False
        self._silent_since = time.monotonic()
        self._drops = 0
        self._deadline = None if timeout is None else time.monotonic() + timeout

    @property
    def headers(self) -> dict[str, str]:
        """Headers of the next connection. ``Last-Event-ID`` also on the first: only then the end of a job is a 204."""
        self._fresh = _Data()
        return {"Accept": "text/event-stream", "Last-Event-ID": str(self._last)}

    @property
    def read_timeout(self) -> float:
        """Seconds of silence after which a connection is given up."""
        left = _SILENCE_SECONDS if self._deadline is None else self._deadline - time.monotonic()
        return max(0.05, min(_SILENCE_SECONDS, left))

    def take(self, line: str) -> JobEvent | None:
        """The event that ``line`` completes, if any and new."""
        self.check_deadline()
        self._silent_since = time.monotonic()
        text = self._fresh.add(line)
        if text is None:
            return None
        event = EventView.model_validate_json(text).root
        if event.id <= self._last:
            return None
        self._last, self._drops, self._over = event.id, 0, event.type in _LAST
        return event

    def pause(self, lost: httpx.HTTPError | httpx.Response | None) -> float:
        """Seconds until the next connection, after one that ended or was refused; raises final errors."""
        self.check_deadline()
        if lost is None and self._over and not self._drops:  # it has ended, as the next connection will confirm
            self._drops = 1
            return 0.0
        response = lost if isinstance(lost, httpx.Response) else None
        if response is not None and response.status_code not in _TRY_AGAIN:
            raise error_of(response)
        if time.monotonic() - self._silent_since > self._server.retries.patience:
            raise self._gave_up(lost)
        self._drops += 1
        delay = self._server.retries.delay(self._drops, retry_after(response) if response is not None else None)
        left = delay if self._deadline is None else max(0.0, self._deadline - time.monotonic())
        return min(delay, left)

    def check_deadline(self) -> None:
        """Raise :class:`WaitTimeoutError` once the caller's time is over."""
        if self._deadline is not None and time.monotonic() >= self._deadline:
            raise WaitTimeoutError(
                f"The job {self._job_id} has not ended in time.", remedy="It continues; wait again, or cancel it."
            )

    def _gave_up(self, lost: httpx.HTTPError | httpx.Response | None) -> ClientError:
        if isinstance(lost, httpx.Response):
            return error_of(lost)
        return self._server.unreachable(lost or httpx.ReadError("the stream ends repeatedly without new events"))


class _Data:
    """The ``data`` lines of one message of the stream."""

    def __init__(self) -> None:
        self._lines: list[str] = []

    def add(self, line: str) -> str | None:
        """The whole data once ``line``, an empty one, ends a message with data."""
        if line.startswith("data:"):
            self._lines.append(line.removeprefix("data:").removeprefix(" "))
            return None
        if line or not self._lines:
            return None
        text, self._lines = "\n".join(self._lines), []
        return text


def follow(connection: Connection, job_id: str, after: int, timeout: float | None) -> Iterator[JobEvent]:
    """Yield every event after the id ``after``, each once, until the job has ended.

    A broken or temporarily refused connection is repeated, and resumes after the last event.

    Raises:
        WaitTimeoutError: the job has not ended after ``timeout`` seconds.
        ClientError: the service refuses permanently, or sends nothing for longer than the client's patience.
    """
    follower = _Follower(connection.server, job_id, after, timeout)
    while True:
        lost: httpx.HTTPError | httpx.Response | None = None
        try:
            with connection.stream(follower.path, follower.headers, follower.read_timeout) as response:
                if response.status_code == _ENDED:
                    return
                if response.is_error:
                    response.read()
                    lost = response
                else:
                    for line in response.iter_lines():
                        if event := follower.take(line):
                            yield event
        except httpx.TransportError as error:
            lost = error
        time.sleep(follower.pause(lost))


async def follow_async(
    connection: AsyncConnection, job_id: str, after: int, timeout: float | None
) -> AsyncIterator[JobEvent]:
    """Asynchronous :func:`follow`."""
    follower = _Follower(connection.server, job_id, after, timeout)
    while True:
        lost: httpx.HTTPError | httpx.Response | None = None
        try:
            async with connection.stream(follower.path, follower.headers, follower.read_timeout) as response:
                if response.status_code == _ENDED:
                    return
                if response.is_error:
                    await response.aread()
                    lost = response
                else:
                    async for line in response.aiter_lines():
                        if event := follower.take(line):
                            yield event
        except httpx.TransportError as error:
            lost = error
        await asyncio.sleep(follower.pause(lost))

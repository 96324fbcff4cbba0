"""Jobs, asynchronously: the same names as in :mod:`qpruner_client.jobs`."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, Unpack

from qpruner_client import calls
from qpruner_client.connection import AsyncConnection, Connection
from qpruner_client.download import CONNECTIONS, OnBytes
from qpruner_client.events import JobEvent, follow_async
from qpruner_client.jobs import Artifacts, JobState, Status
from qpruner_client.log_tail import INTERVAL, LogTail
from qpruner_client.models import (
    AllocationView,
    ArtifactView,
    Estimate,
    JobMetricsView,
    JobRequest,
    JobView,
    LogView,
    TrialList,
)
from qpruner_client.progress import ProgressBar


class AsyncJob(JobState):
    """A job of the service. Requests that return the job update ``view``."""

    def __init__(self, connection: AsyncConnection, view: JobView) -> None:
        super().__init__(view)
        self._connection = connection
        self.artifacts = AsyncArtifacts(connection, view.id)

    async def refresh(self) -> AsyncJob:
        """Request its state; returns itself."""
        self.view = await self._connection.send(calls.get_job(self.id))
        return self

    def events(self, after: int = 0, *, timeout: float | None = None) -> AsyncIterator[JobEvent]:
        """Yield its events after the id ``after`` as they happen, each once, until it has ended; reconnects if needed.

        Raises:
            WaitTimeoutError: it has not ended after ``timeout`` seconds.
        """
        return follow_async(self._connection, self.id, after, timeout)

    async def wait(
        self,
        *,
        timeout: float | None = None,
        progress: bool | Callable[[JobEvent], None] = False,
        check: bool = True,
    ) -> AsyncJob:
        """Wait until it has ended; returns itself.

        Args:
            timeout: seconds; ``None``: no limit.
            progress: ``True`` shows a bar on standard error; a function is called with each event.
            check: raise if it did not succeed.

        Raises:
            JobFailedError, JobCancelledError: with ``check``.
            WaitTimeoutError: it has not ended in time, and continues.
        """
        bar = ProgressBar() if progress is True else None
        show = bar or (progress if callable(progress) else None)
        try:
            async for event in self.events(timeout=timeout):
                if show is not None:
                    show(event)
        finally:
            if bar is not None:
                bar.close()
        await self.refresh()
        if check:
            self.raise_if_unsuccessful()
        return self

    async def cancel(self) -> AsyncJob:
        """Cancel it: at once if no worker holds it, otherwise within seconds. Returns itself."""
        self.view = await self._connection.send(calls.cancel_job(self.id))
        return self

    async def retry(self) -> AsyncJob:
        """Queue it again if it has failed or was cancelled; it resumes after its last finished stage."""
        self.view = await self._connection.send(calls.retry_job(self.id))
        return self

    async def delete(self) -> None:
        """Delete it and its files, once it has ended."""
        await self._connection.send(calls.delete_job(self.id))

    async def trials(self) -> TrialList:
        """Every allocation measured so far, and the Pareto front of bytes against loss."""
        return await self._connection.send(calls.list_trials(self.id))

    async def metrics(self) -> JobMetricsView:
        """Curves so far, and the before/after table."""
        return await self._connection.send(calls.get_metrics(self.id))

    async def logs(self) -> Sequence[LogView]:
        """Output of its processes, by attempt: the last 64 KiB of each."""
        return (await self._connection.send(calls.get_logs(self.id))).logs

    async def follow_logs(self, interval: float = INTERVAL) -> AsyncIterator[str]:
        """As :meth:`qpruner_client.jobs.Job.follow_logs`."""
        tail, ended = LogTail(), False
        while not ended:
            ended = (await self.refresh()).ended
            if text := tail.take(await self.logs(), ended=ended):
                yield text
            if not ended:
                await asyncio.sleep(interval)

    async def allocation(self, memory_budget: int | str) -> AllocationView:
        """The best known allocation for another budget, once the search has finished."""
        return await self._connection.send(calls.get_allocation(self.id, memory_budget))


class AsyncArtifacts:
    """The files of a job."""

    def __init__(self, connection: AsyncConnection, job_id: str) -> None:
        self._connection = connection
        self._job_id = job_id

    async def list(self) -> Sequence[ArtifactView]:
        """Every file, the recommended one first."""
        return (await self._connection.send(calls.list_artifacts(self._job_id))).artifacts

    async def download(
        self,
        name: str | None = None,
        to: Path | str = ".",
        *,
        connections: int = CONNECTIONS,
        on_bytes: OnBytes | None = None,
    ) -> Path:
        """As :meth:`qpruner_client.jobs.Artifacts.download`, in threads; cancelling the task stops them."""
        stop = threading.Event()
        download = asyncio.to_thread(self._download, name, to, connections, on_bytes, stop)
        try:
            return await download
        except asyncio.CancelledError:
            stop.set()
            raise

    def _download(
        self, name: str | None, to: Path | str, connections: int, on_bytes: OnBytes | None, stop: threading.Event
    ) -> Path:
        connection = Connection(self._connection.server)
        try:
            artifacts = Artifacts(connection, self._job_id)
            return artifacts.download(name, to, connections=connections, on_bytes=on_bytes, stop=stop)
        finally:
            connection.close()


class AsyncJobs:
    """All jobs of the tenant."""

    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection

    async def create(self, *, idempotency_key: str | None = None, **settings: Unpack[JobRequest]) -> AsyncJob:
        """Submit a run: ``create(model=…, dataset=…, memory_budget="130MB", target="gguf", prune={"ratio": 0.2})``.

        A request whose response was lost is repeated and still creates one job. ``idempotency_key``: your own name for
        the job, so that your program can repeat the call as well.

        Raises:
            InvalidRequestError, BudgetInfeasibleError: the request is invalid; nothing is queued.
            TooManyRequestsError: the queue stays full for longer than the client's patience.
        """
        return AsyncJob(self._connection, await self._connection.send(calls.create_job(settings, idempotency_key)))

    async def estimate(self, **settings: Unpack[JobRequest]) -> Estimate:
        """Predict a run without running it."""
        return await self._connection.send(calls.estimate_job(settings))

    async def get(self, job_id: str) -> AsyncJob:
        """The job. Raises :class:`NotFoundError`."""
        return AsyncJob(self._connection, await self._connection.send(calls.get_job(job_id)))

    async def list(
        self,
        *,
        q: str | None = None,
        status: Status | Sequence[Status] | None = None,
        model: str | None = None,
        label: dict[str, str] | None = None,
        created_after: datetime | None = None,
        created_before: datetime | None = None,
        limit: int | None = None,
    ) -> AsyncIterator[Any]:
        """Jobs, newest first; further pages are requested as needed; at most ``limit``. ``q``: words to search for."""
        filters = {
            "q": q, "status": status, "model": model, "label": label, "created_after": created_after,
            "created_before": created_before, "limit": min(limit or 100, 100),
        }  # fmt: skip
        cursor, left = None, limit
        while left is None or left > 0:
            page = await self._connection.send(calls.list_jobs(filters, cursor))
            for job in page.jobs[:left]:
                yield job
            left = None if left is None else left - len(page.jobs)
            cursor = page.next_cursor
            if cursor is None:
                return

"""Jobs, synchronously."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, Literal, Unpack

from qpruner_client import calls
from qpruner_client.connection import Connection
from qpruner_client.download import CONNECTIONS, Download, OnBytes, target_of
from qpruner_client.errors import DownloadError, JobCancelledError, JobFailedError
from qpruner_client.events import JobEvent, follow
from qpruner_client.log_tail import INTERVAL, LogTail
from qpruner_client.models import (
    AllocationView,
    ArtifactView,
    CompressionReport,
    Estimate,
    JobErrorView,
    JobMetricsView,
    JobRequest,
    JobView,
    LogView,
    TrialList,
)
from qpruner_client.progress import ProgressBar

ENDED = ("succeeded", "failed", "cancelled")
Status = Literal["queued", "running", "succeeded", "failed", "cancelled"]


class JobState:
    """Last known state of a job."""

    def __init__(self, view: JobView) -> None:
        self.view = view

    @property
    def id(self) -> str:
        """Its id, ``job_…``."""
        return self.view.id

    @property
    def status(self) -> str:
        """``queued``, ``running``, ``succeeded``, ``failed`` or ``cancelled``."""
        return self.view.status

    @property
    def ended(self) -> bool:
        """Whether it has succeeded, failed or was cancelled."""
        return self.view.status in ENDED

    @property
    def progress(self) -> float:
        """Finished share of the whole job."""
        return self.view.progress

    @property
    def result(self) -> CompressionReport | None:
        """The report of a succeeded job."""
        return self.view.result

    @property
    def error(self) -> JobErrorView | None:
        """The error of a failed job."""
        return self.view.error

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.id} {self.status} {self.progress:.0%}>"

    def raise_if_unsuccessful(self) -> None:
        """Raise :class:`JobFailedError` or :class:`JobCancelledError` if it ended that way."""
        if self.status == "failed":
            raise JobFailedError(self.id, self.view.error)
        if self.status == "cancelled":
            raise JobCancelledError(self.id, f"The job {self.id} was cancelled.", remedy="retry() resumes it.")


class Job(JobState):
    """A job of the service. Requests that return the job update ``view``."""

    def __init__(self, connection: Connection, view: JobView) -> None:
        super().__init__(view)
        self._connection = connection
        self.artifacts = Artifacts(connection, view.id)

    def refresh(self) -> Job:
        """Request its state; returns itself."""
        self.view = self._connection.send(calls.get_job(self.id))
        return self

    def events(self, after: int = 0, *, timeout: float | None = None) -> Iterator[JobEvent]:
        """Yield its events after the id ``after`` as they happen, each once, until it has ended; reconnects if needed.

        Raises:
            WaitTimeoutError: it has not ended after ``timeout`` seconds.
        """
        return follow(self._connection, self.id, after, timeout)

    def wait(
        self,
        *,
        timeout: float | None = None,
        progress: bool | Callable[[JobEvent], None] = False,
        check: bool = True,
    ) -> Job:
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
            for event in self.events(timeout=timeout):
                if show is not None:
                    show(event)
        finally:
            if bar is not None:
                bar.close()
        self.refresh()
        if check:
            self.raise_if_unsuccessful()
        return self

    def cancel(self) -> Job:
        """Cancel it: at once if no worker holds it, otherwise within seconds. Returns itself."""
        self.view = self._connection.send(calls.cancel_job(self.id))
        return self

    def retry(self) -> Job:
        """Queue it again if it has failed or was cancelled; it resumes after its last finished stage."""
        self.view = self._connection.send(calls.retry_job(self.id))
        return self

    def delete(self) -> None:
        """Delete it and its files, once it has ended."""
        self._connection.send(calls.delete_job(self.id))

    def trials(self) -> TrialList:
        """Every allocation measured so far, and the Pareto front of bytes against loss."""
        return self._connection.send(calls.list_trials(self.id))

    def metrics(self) -> JobMetricsView:
        """Curves so far, and the before/after table."""
        return self._connection.send(calls.get_metrics(self.id))

    def logs(self) -> Sequence[LogView]:
        """Output of its processes, by attempt: the last 64 KiB of each."""
        return self._connection.send(calls.get_logs(self.id)).logs

    def follow_logs(self, interval: float = INTERVAL) -> Iterator[str]:
        """Yield output of its processes from the last attempt on until it has ended; reads every ``interval``
        seconds."""
        tail, ended = LogTail(), False
        while not ended:
            ended = self.refresh().ended  # before the output: so nothing comes after it
            if text := tail.take(self.logs(), ended=ended):
                yield text
            if not ended:
                time.sleep(interval)

    def allocation(self, memory_budget: int | str) -> AllocationView:
        """The best known allocation for another budget, once the search has finished."""
        return self._connection.send(calls.get_allocation(self.id, memory_budget))


class Artifacts:
    """The files of a job."""

    def __init__(self, connection: Connection, job_id: str) -> None:
        self._connection = connection
        self._job_id = job_id

    def list(self) -> Sequence[ArtifactView]:
        """Every file, the recommended one first."""
        return self._connection.send(calls.list_artifacts(self._job_id)).artifacts

    def find(self, name: str | None = None) -> ArtifactView:
        """The entry of ``name``, by default of the recommended file. Raises :class:`DownloadError`."""
        entries = self.list()
        entry = next((one for one in entries if name in (None, one.name)), None)
        if entry is None:
            known = ", ".join(one.name for one in entries) or "none: it has not succeeded"
            raise DownloadError(
                f"The job {self._job_id} has no file {name or 'to download'}.", code="artifact_not_found",
                remedy=f"Its files are {known}.",
            )  # fmt: skip
        return entry

    def download(
        self,
        name: str | None = None,
        to: Path | str = ".",
        *,
        connections: int = CONNECTIONS,
        on_bytes: OnBytes | None = None,
        stop: threading.Event | None = None,
    ) -> Path:
        """Download the file ``name``, by default the recommended one; returns its path.

        It is downloaded in ranges over ``connections`` at once, resumes an earlier download, and only appears once its
        size and SHA-256 are verified.

        Args:
            to: a folder, or the file to write if it is not a folder and ``name`` is given.
            on_bytes: called with the bytes so far and in all, from the downloading threads.

        Raises:
            DownloadError: it is unavailable, or differs from the listed file.
        """
        entry = self.find(name)
        folder = Path(to)
        is_file = name is not None and not folder.is_dir() and not str(to).endswith("/")
        target = folder if is_file else target_of(entry.name, folder)
        return Download(
            self._connection.server, lambda: self.find(entry.name), target, connections=connections,
            on_bytes=on_bytes, stop=stop,
        ).run()  # fmt: skip


class Jobs:
    """All jobs of the tenant."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def create(self, *, idempotency_key: str | None = None, **settings: Unpack[JobRequest]) -> Job:
        """Submit a run: ``create(model=…, dataset=…, memory_budget="130MB", target="gguf", prune={"ratio": 0.2})``.

        A request whose response was lost is repeated and still creates one job. ``idempotency_key``: your own name for
        the job, so that your program can repeat the call as well.

        Raises:
            InvalidRequestError, BudgetInfeasibleError: the request is invalid; nothing is queued.
            TooManyRequestsError: the queue stays full for longer than the client's patience.
        """
        return Job(self._connection, self._connection.send(calls.create_job(settings, idempotency_key)))

    def estimate(self, **settings: Unpack[JobRequest]) -> Estimate:
        """Predict a run without running it."""
        return self._connection.send(calls.estimate_job(settings))

    def get(self, job_id: str) -> Job:
        """The job. Raises :class:`NotFoundError`."""
        return Job(self._connection, self._connection.send(calls.get_job(job_id)))

    def list(
        self,
        *,
        q: str | None = None,
        status: Status | Sequence[Status] | None = None,
        model: str | None = None,
        label: dict[str, str] | None = None,
        created_after: datetime | None = None,
        created_before: datetime | None = None,
        limit: int | None = None,
    ) -> Iterator[Any]:
        """Jobs, newest first; further pages are requested as needed; at most ``limit``. ``q``: words to search for."""
        filters = {
            "q": q, "status": status, "model": model, "label": label, "created_after": created_after,
            "created_before": created_before, "limit": min(limit or 100, 100),
        }  # fmt: skip
        cursor, left = None, limit
        while left is None or left > 0:
            page = self._connection.send(calls.list_jobs(filters, cursor))
            yield from page.jobs[:left]
            left = None if left is None else left - len(page.jobs)
            cursor = page.next_cursor
            if cursor is None:
                return

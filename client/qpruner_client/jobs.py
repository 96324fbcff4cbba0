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
    """A job as it was last seen."""

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
        """Share of the whole job that is done."""
        return self.view.progress

    @property
    def result(self) -> CompressionReport | None:
        """The report of a job that succeeded."""
        return self.view.result

    @property
    def error(self) -> JobErrorView | None:
        """Why it failed."""
        return self.view.error

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.id} {self.status} {self.progress:.0%}>"

    def raise_if_unsuccessful(self) -> None:
        """Raise :class:`JobFailedError` or :class:`JobCancelledError` if it ended so."""
        if self.status == "failed":
            raise JobFailedError(self.id, self.view.error)
        if self.status == "cancelled":
            raise JobCancelledError(self.id, f"The job {self.id} was cancelled.", remedy="retry() goes on with it.")


class Job(JobState):
    """A job of the service, and what can be done with it. Every request updates ``view`` where it returns the job."""

    def __init__(self, connection: Connection, view: JobView) -> None:
        super().__init__(view)
        self._connection = connection
        self.artifacts = Artifacts(connection, view.id)

    def refresh(self) -> Job:
        """See it again; returns itself."""
        self.view = self._connection.send(calls.get_job(self.id))
        return self

    def events(self, after: int = 0, *, timeout: float | None = None) -> Iterator[JobEvent]:
        """Its events after the id ``after`` as they come, each once, until it has ended; reconnects where it must.

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
        """Wait until it has ended, and return itself.

        Args:
            timeout: seconds; ``None`` waits as long as it takes.
            progress: ``True`` shows a bar on standard error; a function is called with each event.
            check: raise if it did not succeed.

        Raises:
            JobFailedError, JobCancelledError: with ``check``.
            WaitTimeoutError: it has not ended in time, and goes on.
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
        """Ask it to stop: at once if no worker holds it, else within seconds. Returns itself."""
        self.view = self._connection.send(calls.cancel_job(self.id))
        return self

    def retry(self) -> Job:
        """Queue it again after it has failed or was cancelled; it goes on from its last finished stage."""
        self.view = self._connection.send(calls.retry_job(self.id))
        return self

    def delete(self) -> None:
        """Delete it with its files, once it has ended."""
        self._connection.send(calls.delete_job(self.id))

    def trials(self) -> TrialList:
        """Every allocation tried so far, and the Pareto front of bytes against loss."""
        return self._connection.send(calls.list_trials(self.id))

    def metrics(self) -> JobMetricsView:
        """Curves so far, and the table of before and after."""
        return self._connection.send(calls.get_metrics(self.id))

    def logs(self) -> Sequence[LogView]:
        """What its processes printed, by attempt: the last 64 KiB of each."""
        return self._connection.send(calls.get_logs(self.id)).logs

    def follow_logs(self, interval: float = INTERVAL) -> Iterator[str]:
        """What its processes print, from the last attempt on, until it has ended; looks every ``interval`` seconds."""
        tail, ended = LogTail(), False
        while not ended:
            ended = self.refresh().ended  # before the output: so nothing comes after it
            if text := tail.take(self.logs(), ended=ended):
                yield text
            if not ended:
                time.sleep(interval)

    def allocation(self, memory_budget: int | str) -> AllocationView:
        """The best allocation known for another budget, once the search has finished."""
        return self._connection.send(calls.get_allocation(self.id, memory_budget))


class Artifacts:
    """The files of a job."""

    def __init__(self, connection: Connection, job_id: str) -> None:
        self._connection = connection
        self._job_id = job_id

    def list(self) -> Sequence[ArtifactView]:
        """Every file, the one to take first."""
        return self._connection.send(calls.list_artifacts(self._job_id)).artifacts

    def find(self, name: str | None = None) -> ArtifactView:
        """The entry of ``name``, by default of the file to take. Raises :class:`DownloadError`."""
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
        """Download the file ``name``, by default the one to take, and return where it is.

        It comes in ranges over ``connections`` at once, goes on where an earlier download ended, and is there only
        once its size and SHA-256 are those that the service lists.

        Args:
            to: a folder, or the file to write where this is no folder and ``name`` is given.
            on_bytes: called with the bytes so far and in all, from the threads that download.

        Raises:
            DownloadError: it cannot be had, or is not the listed file.
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

        A request whose response was lost is sent again and makes one job. ``idempotency_key``: a name of yours for the
        job, so that your own program may send it again, too.

        Raises:
            InvalidRequestError, BudgetInfeasibleError: it cannot be done as it was made; nothing is queued.
            TooManyRequestsError: the queue stays full for longer than the client is patient.
        """
        return Job(self._connection, self._connection.send(calls.create_job(settings, idempotency_key)))

    def estimate(self, **settings: Unpack[JobRequest]) -> Estimate:
        """What a run would come to, without running it."""
        return self._connection.send(calls.estimate_job(settings))

    def get(self, job_id: str) -> Job:
        """The job. Raises :class:`NotFoundError`."""
        return Job(self._connection, self._connection.send(calls.get_job(job_id)))

    def list(
        self,
        *,
        status: Status | Sequence[Status] | None = None,
        model: str | None = None,
        label: dict[str, str] | None = None,
        created_after: datetime | None = None,
        created_before: datetime | None = None,
        limit: int | None = None,
    ) -> Iterator[Any]:
        """Jobs, the newest first, page after page as you read on; at most ``limit``."""
        filters = {
            "status": status, "model": model, "label": label, "created_after": created_after,
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

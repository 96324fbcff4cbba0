"""Bodies of responses. Generated from the OpenAPI description by ``generate_models.py``; not edited by hand."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from qpruner_client.models.base import Model
from qpruner_client.models.datasets import JobErrorView
from qpruner_client.models.reports import CompressionReport, Measurement, Snippet


class AllocationView(Model):
    """The best allocation known for another budget, from the job's scores and trials."""

    memory_budget: int
    """Bytes that were asked for."""

    groups: list[str]
    """Units with a precision of their own."""

    precisions: list[str]
    """Precision of each group."""

    bytes: int
    """Bytes of the loaded model."""

    loss: float
    """Nats per token on calibration text, before recovery; less is better."""

    measured: bool
    """Whether a trial has measured the loss; else it is predicted."""


class ArtifactView(Model):
    """A file to download, and what to do with it."""

    name: str
    """Name of the file, as it is downloaded."""

    bytes: int
    """Size in bytes."""

    sha256: str
    """SHA-256 of the content, in hex."""

    format: str
    """Kind of file: gguf, tar, json or md."""

    url: str
    """Needs no key; good for GET with Range until `expires_at`."""

    expires_at: datetime
    """When the signed URL expires."""

    title: str
    """What it is."""

    unpack: str | None
    """The command that unpacks it; null for what is used as it is."""

    snippets: list[Snippet]
    """The lines that run it, once unpacked, for each tool; empty for documents and in older jobs."""


class ArtifactList(Model):
    """Every file of a job, the one to take first."""

    artifacts: list[ArtifactView]
    """The files."""


class CurvePoint(Model):
    """One point of a curve."""

    step: int
    """Step of the optimiser."""

    value: float
    """Value at that step."""


class JobLinks(Model):
    """Paths of what else there is to see of the job."""

    self: str
    """The job."""

    events: str
    """Its history."""

    trials: str
    """Its search."""

    metrics: str
    """Its curves."""

    artifacts: str
    """Its files."""


class JobMetricsView(Model):
    """The curves of a job, and what was measured before and after."""

    curves: dict[str, list[CurvePoint]]
    """By name, such as `finetune.loss`."""

    measurements: list[Measurement]
    """Empty until the job succeeds."""


class JobSummary(Model):
    """A job in a list. `GET /jobs/{id}` has its settings, stages and result."""

    id: str
    """Id of the job."""

    status: Literal["queued", "running", "succeeded", "failed", "cancelled"] | str
    """State of the job."""

    stage: str | None
    """The stage at work; null before the first."""

    progress: float
    """Share of the whole job that is done."""

    attempt: int
    """Attempts so far. A job that loses its worker gets another."""

    max_attempts: int
    """Attempts before the job fails."""

    cancel_requested: bool
    """The job was asked to stop, and its worker has yet to obey."""

    model: str
    """The model as it was named."""

    dataset: str
    """The dataset as it was named."""

    memory_budget: int
    """Bytes of the loaded model's weights: as asked for, or what the device of `fit` leaves for them."""

    labels: dict[str, str]
    """Names and values of yours."""

    priority: int
    """Order among your own jobs that wait: the highest first."""

    created_at: datetime
    """When it was made."""

    started_at: datetime | None
    """When its first attempt began."""

    finished_at: datetime | None
    """When it ended."""

    dense_bytes: int | None
    """Bytes of the loaded model before; null until the job succeeds."""

    final_bytes: int | None
    """Bytes of the loaded model after; null until the job succeeds."""

    error: JobErrorView | None
    """Why the job failed."""

    links: JobLinks
    """Paths of the job's parts."""


class JobPage(Model):
    """A page of jobs, the newest first."""

    jobs: list[JobSummary]
    """The jobs."""

    next_cursor: str | None
    """Give it as `cursor` to see older jobs; null on the last page."""


class StageView(Model):
    """One of the seven stages. `seconds` is what the attempt that finished it took, also if that was another job's."""

    name: str
    """Name of the stage."""

    status: Literal["pending", "running", "finished", "failed", "cancelled"] | str
    """State of the stage."""

    seconds: float | None = None
    """Seconds it took; null until it has finished."""

    expected_seconds: float | None = None
    """What its worker expects it to take; null before the job has begun, and on machines that could not be measured.
    """

    reused_from: str | None = None
    """The job of yours that had computed it already; null if this one did."""


class QueueView(Model):
    """The place of a job that waits."""

    ahead: int
    """Jobs that will be taken before it, of all who use the service, as it stands."""


class JobView(Model):
    """A job, and how far it is."""

    id: str
    """Id of the job."""

    status: Literal["queued", "running", "succeeded", "failed", "cancelled"] | str
    """State of the job."""

    stage: str | None
    """The stage at work; null before the first."""

    progress: float
    """Share of the whole job that is done."""

    attempt: int
    """Attempts so far. A job that loses its worker gets another."""

    max_attempts: int
    """Attempts before the job fails."""

    cancel_requested: bool
    """The job was asked to stop, and its worker has yet to obey."""

    model: str
    """The model as it was named."""

    dataset: str
    """The dataset as it was named."""

    memory_budget: int
    """Bytes of the loaded model's weights: as asked for, or what the device of `fit` leaves for them."""

    labels: dict[str, str]
    """Names and values of yours."""

    priority: int
    """Order among your own jobs that wait: the highest first."""

    created_at: datetime
    """When it was made."""

    started_at: datetime | None
    """When its first attempt began."""

    finished_at: datetime | None
    """When it ended."""

    dense_bytes: int | None
    """Bytes of the loaded model before; null until the job succeeds."""

    final_bytes: int | None
    """Bytes of the loaded model after; null until the job succeeds."""

    error: JobErrorView | None
    """Why the job failed."""

    links: JobLinks
    """Paths of the job's parts."""

    config: dict[str, Any]
    """Every setting of the run, defaults included."""

    deadline: int | None
    """Seconds that the job may take from its first start to its end; null for jobs of earlier releases."""

    deadline_at: datetime | None
    """When that time is over; null before the first start."""

    stages: list[StageView]
    """The seven stages, in order."""

    queue: QueueView | None
    """Its place in the queue; null unless the job waits, and in the answer to its submission."""

    expected_start: datetime | None
    """When a worker is expected to take the job; null unless it waits, and where nothing is known yet."""

    expected_end: datetime | None
    """When the job is expected to end; null once it has, and where nothing is known yet."""

    result: CompressionReport | None
    """The report of a job that succeeded."""


class LogView(Model):
    """The output of an attempt."""

    attempt: int
    """Number of the attempt, from 1."""

    text: str
    """What its process printed, at most the last 64 KiB."""

    omitted_bytes: int
    """Bytes before it that are not kept."""

    updated_at: datetime
    """When it was last written."""


class LogList(Model):
    """The output of every attempt, the first attempt first."""

    logs: list[LogView]
    """One entry per attempt; none before the first has printed anything."""


class StorageView(Model):
    """Bytes in the store, and how long they are kept."""

    datasets_bytes: int
    """Bytes of uploaded datasets."""

    models_bytes: int
    """Bytes of uploaded models, and of uploads that are unfinished."""

    artifacts_bytes: int
    """Bytes of files to download."""

    stages_bytes: int
    """Bytes of stages that later jobs or attempts go on from."""

    total_bytes: int
    """Bytes of all of these."""

    limit_bytes: int | None
    """Bytes that there may be; null: no limit."""

    keep_artifacts_days: int | None
    """Days that files to download are kept; null: for ever."""

    keep_stages_days: int | None
    """Days that stages are kept; null: for ever."""

    keep_models_days: int | None
    """Days that uploaded models are kept without being used; null: for ever."""

    keep_events_days: int | None
    """Days that the history of a job is kept; null: for ever."""


class TrialView(Model):
    """One allocation that the search tried."""

    index: int
    """Number of the trial, from 0."""

    origin: str
    """What proposed it."""

    precisions: list[str]
    """Precision of each of `groups`, in their order."""

    bytes: int
    """Bytes of the loaded model."""

    loss: float
    """Nats per token on calibration text; less is better."""

    stopped_early: bool = False
    """Whether only part of the text was tried, because the loss on it was hopeless."""


class TrialList(Model):
    """Every allocation tried, and which of them no other beats in both bytes and loss."""

    groups: list[str]
    """Units with a precision of their own: by `allocate.granularity` a layer, its attention or MLP, or a module; and
    the embeddings and the head. Empty until the score stage has finished.
    """

    trials: list[TrialView]
    """The trials, in order."""

    pareto_front: list[int]
    """Indices of those trials, by bytes."""

    selected: int | None
    """Index of the trial that the result uses; null until the job succeeds."""

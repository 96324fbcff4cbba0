"""Bodies of responses. Generated from the OpenAPI description by ``generate_models.py``; not edited by hand."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from qpruner_client.models.base import Model
from qpruner_client.models.datasets import JobErrorView
from qpruner_client.models.reports import CompressionReport, Measurement, Snippet


class AllocationView(Model):
    """The best known allocation for another budget, from the job's scores and trials."""

    memory_budget: int
    """Requested bytes."""

    groups: list[str]
    """Units that each have their own precision."""

    precisions: list[str]
    """Precision of each group."""

    bytes: int
    """Bytes of the loaded model."""

    loss: float
    """Nats per token on calibration text, before recovery; lower is better."""

    measured: bool
    """Whether a trial measured the loss; otherwise it is predicted."""


class ArtifactView(Model):
    """A file to download, and how to use it."""

    name: str
    """File name of the download."""

    bytes: int
    """Size in bytes."""

    sha256: str
    """SHA-256 of the content, in hex."""

    format: str
    """Kind of file: gguf, tar, json or md."""

    url: str
    """Needs no key; supports GET with Range until `expires_at`."""

    expires_at: datetime
    """When the signed URL expires."""

    title: str
    """Description of the file."""

    unpack: str | None
    """The command that unpacks it; null if it is used as it is."""

    snippets: list[Snippet]
    """Commands or code that run it, once unpacked, per tool; empty for documents and in older jobs."""


class ArtifactList(Model):
    """Every file of a job, the recommended one first."""

    artifacts: list[ArtifactView]
    """The files."""


class CurvePoint(Model):
    """One point of a curve."""

    step: int
    """Step of the optimiser."""

    value: float
    """Value at that step."""


class JobLinks(Model):
    """Paths of the job's sub-resources."""

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
    """The curves of a job, and the measurements before and after."""

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
    """The running stage; null before the first."""

    progress: float
    """Finished share of the whole job."""

    attempt: int
    """Attempts so far. A job that loses its worker gets another."""

    max_attempts: int
    """Attempts before the job fails."""

    cancel_requested: bool
    """Cancellation was requested, and its worker has not stopped yet."""

    model: str
    """Model as given in the request."""

    dataset: str
    """Dataset as given in the request."""

    memory_budget: int
    """Bytes of the loaded model's weights: as requested, or left by the device of `fit`."""

    labels: dict[str, str]
    """Your own names and values."""

    priority: int
    """Order among your own waiting jobs: the highest first."""

    created_at: datetime
    """Creation time."""

    started_at: datetime | None
    """Start of its first attempt."""

    finished_at: datetime | None
    """End time."""

    dense_bytes: int | None
    """Bytes of the loaded model before; null until the job succeeds."""

    final_bytes: int | None
    """Bytes of the loaded model after; null until the job succeeds."""

    error: JobErrorView | None
    """Error of a failed job."""

    links: JobLinks
    """Paths of the job's sub-resources."""


class JobPage(Model):
    """A page of jobs, newest first."""

    jobs: list[JobSummary]
    """The jobs."""

    next_cursor: str | None
    """Send it as `cursor` for older jobs; null on the last page."""


class StageView(Model):
    """One of the seven stages. `seconds`: time of the attempt that finished it, also if another job's."""

    name: str
    """Name of the stage."""

    status: Literal["pending", "running", "finished", "failed", "cancelled"] | str
    """State of the stage."""

    seconds: float | None = None
    """Seconds it took; null until it has finished."""

    expected_seconds: float | None = None
    """Expected seconds; null before the job has begun, and on machines that could not be measured."""

    reused_from: str | None = None
    """Your job that had already computed it; null if this one did."""


class QueueView(Model):
    """Place of a waiting job in the queue."""

    ahead: int
    """Number of jobs of all users that are currently ahead of it."""


class JobView(Model):
    """A job and its state."""

    id: str
    """Id of the job."""

    status: Literal["queued", "running", "succeeded", "failed", "cancelled"] | str
    """State of the job."""

    stage: str | None
    """The running stage; null before the first."""

    progress: float
    """Finished share of the whole job."""

    attempt: int
    """Attempts so far. A job that loses its worker gets another."""

    max_attempts: int
    """Attempts before the job fails."""

    cancel_requested: bool
    """Cancellation was requested, and its worker has not stopped yet."""

    model: str
    """Model as given in the request."""

    dataset: str
    """Dataset as given in the request."""

    memory_budget: int
    """Bytes of the loaded model's weights: as requested, or left by the device of `fit`."""

    labels: dict[str, str]
    """Your own names and values."""

    priority: int
    """Order among your own waiting jobs: the highest first."""

    created_at: datetime
    """Creation time."""

    started_at: datetime | None
    """Start of its first attempt."""

    finished_at: datetime | None
    """End time."""

    dense_bytes: int | None
    """Bytes of the loaded model before; null until the job succeeds."""

    final_bytes: int | None
    """Bytes of the loaded model after; null until the job succeeds."""

    error: JobErrorView | None
    """Error of a failed job."""

    links: JobLinks
    """Paths of the job's sub-resources."""

    config: dict[str, Any]
    """Every setting of the run, including defaults."""

    deadline: int | None
    """Time limit in seconds from the first start to the end; null for jobs of earlier releases."""

    deadline_at: datetime | None
    """End of that time limit; null before the first start."""

    stages: list[StageView]
    """The seven stages, in order."""

    queue: QueueView | None
    """Place in the queue; null unless the job waits, and in the response to its submission."""

    expected_start: datetime | None
    """Expected start; null unless the job waits, and if unknown."""

    expected_end: datetime | None
    """Expected end; null once it has ended, and if unknown."""

    result: CompressionReport | None
    """The report of a succeeded job."""


class LogView(Model):
    """The output of an attempt."""

    attempt: int
    """Number of the attempt, from 1."""

    text: str
    """Output of its process, at most the last 64 KiB."""

    omitted_bytes: int
    """Earlier bytes that were not kept."""

    updated_at: datetime
    """Time of the last write."""


class LogList(Model):
    """The output of every attempt, the first attempt first."""

    logs: list[LogView]
    """One entry per attempt with output."""


class StorageView(Model):
    """Bytes in the store, and how long they are kept."""

    datasets_bytes: int
    """Bytes of uploaded datasets."""

    models_bytes: int
    """Bytes of uploaded models, and of uploads that are unfinished."""

    artifacts_bytes: int
    """Bytes of files to download."""

    stages_bytes: int
    """Bytes of stages that later jobs or attempts reuse."""

    total_bytes: int
    """Sum of all of these."""

    limit_bytes: int | None
    """Limit of the sum; null: no limit."""

    keep_artifacts_days: int | None
    """Days that files to download are kept; null: forever."""

    keep_stages_days: int | None
    """Days that stages are kept; null: forever."""

    keep_models_days: int | None
    """Days that uploaded models are kept without being used; null: forever."""

    keep_events_days: int | None
    """Days that the history of a job is kept; null: forever."""


class TrialView(Model):
    """One allocation that the search tried."""

    index: int
    """Number of the trial, from 0."""

    origin: str
    """Origin of the proposal."""

    precisions: list[str]
    """Precision of each of `groups`, in order."""

    bytes: int
    """Bytes of the loaded model."""

    loss: float
    """Nats per token on calibration text; lower is better."""

    stopped_early: bool = False
    """Whether only part of the text was measured, because its loss was hopeless."""


class TrialList(Model):
    """Every measured allocation, and the non-dominated ones in bytes and loss."""

    groups: list[str]
    """Units that each have their own precision: by `allocate.granularity` a layer, its attention or MLP, or a module;
    and the embeddings and the head. Empty until the score stage has finished.
    """

    trials: list[TrialView]
    """The trials, in order."""

    pareto_front: list[int]
    """Indices of the non-dominated trials, by bytes."""

    selected: int | None
    """Index of the trial in the result; null until the job succeeds."""

"""Bodies of responses. Generated from the OpenAPI description by ``generate_models.py``; not edited by hand."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from qpruner_client.models.base import Model
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
    bytes: int
    sha256: str
    format: str
    url: str
    """Needs no key; good for GET with Range until `expires_at`."""

    expires_at: datetime
    title: str
    """What it is."""

    unpack: str | None
    """The command that unpacks it; null for what is used as it is."""

    snippets: list[Snippet]
    """The lines that run it, once unpacked, for each tool; empty for documents and in older jobs."""


class ArtifactList(Model):
    """Every file of a job, the one to take first."""

    artifacts: list[ArtifactView]


class CurvePoint(Model):
    """One point of a curve."""

    step: int
    value: float


class JobErrorView(Model):
    """Why a job failed. `code` is stable."""

    code: str
    message: str
    field: str | None = None
    remedy: str = ""
    user: bool
    """Whether the request is at fault, and must be changed; else the service is, and a retry may help."""


class JobLinks(Model):
    """Paths of what else there is to see of the job."""

    self: str
    events: str
    trials: str
    metrics: str
    artifacts: str


class JobMetricsView(Model):
    """The curves of a job, and what was measured before and after."""

    curves: dict[str, list[CurvePoint]]
    """By name, such as `finetune.loss`."""

    measurements: list[Measurement]
    """Empty until the job succeeds."""


class StageView(Model):
    """One of the seven stages. `seconds` is what the attempt that finished it took, also if that was another job's."""

    name: str
    status: Literal["pending", "running", "finished", "failed", "cancelled"] | str
    seconds: float | None = None
    expected_seconds: float | None = None
    """What its worker expects it to take; null before the job has begun, and on machines that could not be measured.
    """

    reused_from: str | None = None
    """The job of yours that had computed it already; null if this one did."""


class JobView(Model):
    """A job, and how far it is."""

    id: str
    status: Literal["queued", "running", "succeeded", "failed", "cancelled"] | str
    stage: str | None
    """The stage at work; null before the first."""

    progress: float
    """Share of the whole job that is done."""

    attempt: int
    """Attempts so far. A job that loses its worker gets another."""

    max_attempts: int
    cancel_requested: bool
    """The job was asked to stop, and its worker has yet to obey."""

    model: str
    dataset: str
    memory_budget: int
    """Bytes of the loaded model's weights: as asked for, or what the device of `fit` leaves for them."""

    labels: dict[str, str]
    config: dict[str, Any]
    """Every setting of the run, defaults included."""

    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    stages: list[StageView]
    result: CompressionReport | None
    """The report of a job that succeeded."""

    error: JobErrorView | None
    """Why the job failed."""

    links: JobLinks


class JobPage(Model):
    """A page of jobs, the newest first."""

    jobs: list[JobView]
    next_cursor: str | None
    """Give it as `cursor` to see older jobs; null on the last page."""


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


class TrialView(Model):
    """One allocation that the search tried."""

    index: int
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
    pareto_front: list[int]
    """Indices of those trials, by bytes."""

    selected: int | None
    """Index of the trial that the result uses; null until the job succeeds."""

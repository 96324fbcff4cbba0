"""Bodies of requests about jobs, and of their responses."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, field_validator, model_validator

from app.durations import Duration
from app.jobs.models import Artifact, Job, JobStatus
from app.jobs.outlook import Outlook
from app.jobs.repository import FinishedStage
from app.webhooks.schemas import JobWebhook
from qpruner_core.config import CompressionConfig
from qpruner_core.errors import InvalidConfigError
from qpruner_core.events import STAGES
from qpruner_core.recipe_settings import with_recipe
from qpruner_core.report import CompressionReport, Measurement, Snippet
from qpruner_core.strict import fault_at

MAX_LABELS = 16
_MOST_OF_RECIPE = 100
EXAMPLE_REQUEST: dict[str, Any] = {
    "model": "demo:smollm2-135m-instruct",
    "dataset": "ds_THE_ID_FROM_POST_DATASETS",
    "memory_budget": "100MB",
    "target": "gguf",
    "allocate": {"trials": 12},
    "finetune": {"steps": 100},
    "labels": {"team": "search"},
}

LabelKey = Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{1,63}$")]
LabelValue = Annotated[str, Field(pattern=r"^[^\x00-\x1f\x7f]{0,255}$")]


def _sorted(labels: dict[str, str]) -> dict[str, str]:
    return dict(sorted(labels.items()))  # so that the order they were sent in does not make another request


_RECIPE: dict[str, Any] = {
    "type": "object",
    "title": "Recipe",
    "description": "The content of a `recipe.json`, whose files are to be made again; it stands for `model`, `dataset` "
    "and every other setting. What is given beside it wins, such as the id of another upload of the same `dataset`. A "
    "model or dataset of other content is refused.",
    "additionalProperties": True,
    "maxProperties": _MOST_OF_RECIPE,
}


def _describe_recipe(schema: dict[str, Any]) -> None:
    """A recipe becomes settings before these are validated, and is no field of its own."""
    schema["examples"] = [EXAMPLE_REQUEST]
    schema["properties"] = {"recipe": _RECIPE, **schema["properties"]}
    schema.pop("required", None)  # model and dataset, which a recipe names


class JobRequest(CompressionConfig):
    """A run to do: its settings, or a recipe; and labels to find it by. Without a recipe, `model` and `dataset` are
    required."""

    model_config = ConfigDict(json_schema_extra=_describe_recipe)
    labels: Annotated[dict[LabelKey, LabelValue], AfterValidator(_sorted)] = Field(
        default={}, max_length=MAX_LABELS, description="Names and values of your own; `GET /jobs` filters by them."
    )
    priority: int = Field(
        default=0, ge=-100, le=100, description="Order among your own jobs that wait: the highest first."
    )

    deadline: Duration | None = Field(
        default=None,
        description="Time that the job may take from its first start to its end, in seconds or such as `90m` or "
        "`1d 12h`. Default and maximum are the operator's.",
        examples=["12h"],
    )

    webhooks: tuple[JobWebhook, ...] = Field(
        default=(), max_length=4, description="Addresses that hear of this job, as if added by `POST /webhooks`."
    )

    @model_validator(mode="before")
    @classmethod
    def _of_recipe(cls, values: Any) -> Any:
        recipe = values.get("recipe") if isinstance(values, dict) else None
        if isinstance(recipe, dict) and len(recipe) > _MOST_OF_RECIPE:
            raise fault_at("recipe", f"A recipe has at most {_MOST_OF_RECIPE} entries.", None)
        try:
            return with_recipe(values) if isinstance(values, dict) else values
        except InvalidConfigError as error:
            raise fault_at("recipe", f"{error.message} {error.remedy}", values.get("recipe")) from error

    @field_validator("model", "dataset")
    @classmethod
    def _printable(cls, value: str) -> str:
        if not value.isprintable():
            raise ValueError("names and paths have no control characters")
        return value

    def config(self) -> CompressionConfig:
        """The settings of the run alone, which were validated with the request."""
        names = CompressionConfig.model_fields
        return CompressionConfig.model_construct(
            self.model_fields_set & set(names), **{name: getattr(self, name) for name in names}
        )

    def digest(self) -> str:
        """SHA-256 (hex) of the canonical JSON of this request; priority, deadline and webhooks that are not named are
        not part of it."""
        unnamed = {"priority": 0, "deadline": None, "webhooks": ()}
        without = {name for name, value in unnamed.items() if getattr(self, name) == value}
        return hashlib.sha256(self.model_dump_json(exclude=without).encode()).hexdigest()


class EstimateRequest(JobRequest):
    """What `POST /jobs` takes; the dataset may be left out."""

    dataset: str = Field(
        default="", max_length=1024,
        description="As for `POST /jobs`. Left out, nothing is said of it, and times are those of enough text.",
    )  # fmt: skip


class StageView(BaseModel):
    """One of the seven stages. `seconds` is what the attempt that finished it took, also if that was another job's."""

    name: str
    status: Literal["pending", "running", "finished", "failed", "cancelled"]
    seconds: float | None = None
    expected_seconds: float | None = Field(
        default=None,
        description="What its worker expects it to take; null before the job has begun, and on machines that could not "
        "be measured.",
    )
    reused_from: str | None = Field(
        default=None, description="The job of yours that had computed it already; null if this one did."
    )


class JobErrorView(BaseModel):
    """Why a job failed. `code` is stable."""

    code: str
    message: str
    field: str | None = None
    remedy: str = ""
    user: bool = Field(
        description="Whether the request is at fault, and must be changed; else the service is, and a retry may help."
    )


class JobLinks(BaseModel):
    """Paths of what else there is to see of the job."""

    self: str
    events: str
    trials: str
    metrics: str
    artifacts: str


class JobSummary(BaseModel):
    """A job in a list. `GET /jobs/{id}` has its settings, stages and result."""

    id: str = Field(examples=["job_01k9t4ae5xfz3v2s6q0m8y1d7c"])
    status: JobStatus
    stage: str | None = Field(description="The stage at work; null before the first.")
    progress: float = Field(ge=0, le=1, description="Share of the whole job that is done.")
    attempt: int = Field(description="Attempts so far. A job that loses its worker gets another.")
    max_attempts: int
    cancel_requested: bool = Field(description="The job was asked to stop, and its worker has yet to obey.")
    model: str
    dataset: str
    memory_budget: int = Field(
        description="Bytes of the loaded model's weights: as asked for, or what the device of `fit` leaves for them."
    )
    labels: dict[str, str]
    priority: int = Field(description="Order among your own jobs that wait: the highest first.")
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    dense_bytes: int | None = Field(description="Bytes of the loaded model before; null until the job succeeds.")
    final_bytes: int | None = Field(description="Bytes of the loaded model after; null until the job succeeds.")
    error: JobErrorView | None = Field(description="Why the job failed.")
    links: JobLinks

    @classmethod
    def of(cls, job: Job) -> Self:
        """The summary of ``job``."""
        return cls(**_summary(job))


class QueueView(BaseModel):
    """The place of a job that waits."""

    ahead: int = Field(description="Jobs that will be taken before it, of all who use the service, as it stands.")


class JobView(JobSummary):
    """A job, and how far it is."""

    model_config = ConfigDict(title="Job")
    config: dict[str, Any] = Field(description="Every setting of the run, defaults included.")
    deadline: int | None = Field(
        description="Seconds that the job may take from its first start to its end; null for jobs of earlier releases."
    )
    deadline_at: datetime | None = Field(description="When that time is over; null before the first start.")
    stages: list[StageView]
    queue: QueueView | None = Field(
        description="Its place in the queue; null unless the job waits, and in the answer to its submission."
    )
    expected_start: datetime | None = Field(
        description="When a worker is expected to take the job; null unless it waits, and where nothing is known yet."
    )
    expected_end: datetime | None = Field(
        description="When the job is expected to end; null once it has, and where nothing is known yet."
    )
    result: CompressionReport | None = Field(description="The report of a job that succeeded.")

    @classmethod
    def of(cls, job: Job, finished: Mapping[str, FinishedStage] = {}, outlook: Outlook | None = None) -> Self:
        """The view of ``job``, of which the stages in ``finished`` are; ``outlook``: of a job that has not ended."""
        return cls(
            **_summary(job),
            config=job.config,
            deadline=job.deadline,
            deadline_at=job.deadline_at,
            stages=[_stage_view(job, name, finished) for name in STAGES],
            queue=QueueView(ahead=outlook.ahead) if outlook and outlook.ahead is not None else None,
            expected_start=outlook.expected_start if outlook else None,
            expected_end=outlook.expected_end if outlook else None,
            result=None if job.result is None else CompressionReport.model_validate(job.result),
        )


def _summary(job: Job) -> dict[str, Any]:
    path = f"/jobs/{job.id}"
    return {
        "id": job.id,
        "status": job.status,
        "stage": job.stage,
        "progress": job.progress,
        "attempt": job.attempt,
        "max_attempts": job.max_attempts,
        "cancel_requested": job.cancel_requested_at is not None,
        "model": job.model,
        "dataset": job.dataset,
        "memory_budget": job.memory_budget,
        "labels": job.labels,
        "priority": job.priority,
        "created_at": job.created_at,
        "started_at": job.started_at,
        "finished_at": job.finished_at,
        "dense_bytes": job.dense_bytes,
        "final_bytes": job.final_bytes,
        "error": None if job.error is None else JobErrorView.model_validate(job.error),
        "links": JobLinks(
            self=path,
            events=f"{path}/events",
            trials=f"{path}/trials",
            metrics=f"{path}/metrics",
            artifacts=f"{path}/artifacts",
        ),
    }


def _stage_view(job: Job, name: str, finished: Mapping[str, FinishedStage]) -> StageView:
    expected = (job.expected_seconds or {}).get(name)
    if stage := finished.get(name):
        return StageView(
            name=name, status="finished", seconds=stage.seconds, expected_seconds=expected,
            reused_from=stage.reused_from,
        )  # fmt: skip
    if name == job.stage and job.status in ("running", "failed", "cancelled"):
        return StageView(name=name, status=job.status, expected_seconds=expected)
    return StageView(name=name, status="pending", expected_seconds=expected)


class JobPage(BaseModel):
    """A page of jobs, the newest first."""

    jobs: list[JobSummary]
    next_cursor: str | None = Field(description="Give it as `cursor` to see older jobs; null on the last page.")


class TrialView(BaseModel):
    """One allocation that the search tried."""

    index: int
    origin: str = Field(description="What proposed it.", examples=["uniform", "knapsack", "random", "bayesian"])
    precisions: list[str] = Field(description="Precision of each of `groups`, in their order.")
    bytes: int = Field(description="Bytes of the loaded model.")
    loss: float = Field(description="Nats per token on calibration text; less is better.")
    stopped_early: bool = Field(
        default=False, description="Whether only part of the text was tried, because the loss on it was hopeless."
    )


class TrialList(BaseModel):
    """Every allocation tried, and which of them no other beats in both bytes and loss."""

    groups: list[str] = Field(
        description="Units with a precision of their own: by `allocate.granularity` a layer, its attention or MLP, or "
        "a module; and the embeddings and the head. Empty until the score stage has finished.",
        examples=[["layers.0.attention", "layers.0.mlp", "layers.1.attention", "layers.1.mlp", "embeddings"]],
    )
    trials: list[TrialView]
    pareto_front: list[int] = Field(description="Indices of those trials, by bytes.")
    selected: int | None = Field(description="Index of the trial that the result uses; null until the job succeeds.")


class AllocationView(BaseModel):
    """The best allocation known for another budget, from the job's scores and trials."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "memory_budget": 120000000, "groups": ["layers.0", "layers.1", "embeddings"],
                    "precisions": ["int8", "nf4", "bf16"], "bytes": 119873536, "loss": 0.1832, "measured": False,
                }
            ]
        }
    )  # fmt: skip
    memory_budget: int = Field(description="Bytes that were asked for.")
    groups: list[str] = Field(description="Units with a precision of their own.")
    precisions: list[str] = Field(description="Precision of each group.")
    bytes: int = Field(description="Bytes of the loaded model.")
    loss: float = Field(description="Nats per token on calibration text, before recovery; less is better.")
    measured: bool = Field(description="Whether a trial has measured the loss; else it is predicted.")


class CurvePoint(BaseModel):
    """One point of a curve."""

    step: int
    value: float


class JobMetricsView(BaseModel):
    """The curves of a job, and what was measured before and after."""

    curves: dict[str, list[CurvePoint]] = Field(description="By name, such as `finetune.loss`.")
    measurements: list[Measurement] = Field(description="Empty until the job succeeds.")


class StoredArtifact(BaseModel):
    """A file as it is stored."""

    name: str = Field(examples=["model.gguf"])
    bytes: int
    sha256: str
    format: str = Field(examples=["gguf"])
    url: str = Field(description="Needs no key; good for GET with Range until `expires_at`.")
    expires_at: datetime

    @classmethod
    def of(cls, artifact: Artifact, url: str, expires_at: datetime) -> Self:
        """``artifact``, which can be had from ``url`` until ``expires_at``."""
        return cls(
            name=artifact.name, bytes=artifact.bytes, sha256=artifact.sha256, format=artifact.format, url=url,
            expires_at=expires_at,
        )  # fmt: skip


class ArtifactView(StoredArtifact):
    """A file to download, and what to do with it."""

    title: str = Field(description="What it is.", examples=["one file for llama.cpp and Ollama"])
    unpack: str | None = Field(description="The command that unpacks it; null for what is used as it is.")
    snippets: list[Snippet] = Field(
        description="The lines that run it, once unpacked, for each tool; empty for documents and in older jobs."
    )


class ArtifactList(BaseModel):
    """Every file of a job, the one to take first."""

    artifacts: list[ArtifactView]

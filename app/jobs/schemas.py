"""Bodies of requests about jobs, and of their responses."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from datetime import datetime
from functools import cache, cached_property
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, field_validator, model_validator

from app.durations import Duration
from app.jobs.models import Artifact, Job, JobStatus
from app.jobs.outlook import Outlook
from app.jobs.repository import FinishedStage
from app.webhooks.schemas import WEBHOOKS_PER_JOB, JobWebhook
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
    return dict(sorted(labels.items()))  # so that another order does not make another request


_RECIPE: dict[str, Any] = {
    "type": "object",
    "title": "Recipe",
    "description": (
        "The content of a `recipe.json` to reproduce; it replaces `model`, `dataset` and every other setting. "
        "Values given beside it take precedence, such as the id of another upload of the same `dataset`. A "
        "model or dataset with other content is rejected."
    ),
    "additionalProperties": True,
    "maxProperties": _MOST_OF_RECIPE,
}


def _describe_recipe(schema: dict[str, Any]) -> None:
    """A recipe becomes settings before these are validated, and is not a field itself."""
    schema["examples"] = [EXAMPLE_REQUEST]
    schema["properties"] = {"recipe": _RECIPE, **schema["properties"]}
    schema.pop("required", None)  # model and dataset, which a recipe names


class JobRequest(CompressionConfig):
    """A run: its settings, or a recipe; and labels for finding it. Without a recipe, `model` and `dataset` are
    required."""

    model_config = ConfigDict(json_schema_extra=_describe_recipe)
    labels: Annotated[dict[LabelKey, LabelValue], AfterValidator(_sorted)] = Field(
        default={}, max_length=MAX_LABELS, description="Your own names and values; `GET /jobs` filters by them."
    )
    priority: int = Field(
        default=0, ge=-100, le=100, description="Order among your own waiting jobs: the highest first."
    )

    deadline: Duration | None = Field(
        default=None,
        description=(
            "Time limit of the job from its first start to its end, in seconds or such as `90m` or `1d 12h`. "
            "The operator sets default and maximum."
        ),
        examples=["12h"],
    )

    webhooks: tuple[JobWebhook, ...] = Field(
        default=(),
        max_length=WEBHOOKS_PER_JOB,
        description=("Addresses that receive events of this job, as if added by `POST /webhooks`."),
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
            raise ValueError("control characters are not allowed in names and paths")
        return value

    @cached_property
    def config(self) -> CompressionConfig:
        """The settings of the run alone, which were validated with the request."""
        names = CompressionConfig.model_fields
        return CompressionConfig.model_construct(
            self.model_fields_set & set(names), **{name: getattr(self, name) for name in names}
        )

    def digest(self) -> str:
        """SHA-256 (hex) of the canonical JSON of this request; unset priority, deadline and webhooks are not part of
        it."""
        unnamed = {"priority": 0, "deadline": None, "webhooks": ()}
        without = {name for name, value in unnamed.items() if getattr(self, name) == value}
        return hashlib.sha256(self.model_dump_json(exclude=without).encode()).hexdigest()


class EstimateRequest(JobRequest):
    """A body of `POST /jobs`, in which the dataset is optional."""

    dataset: str = Field(
        default="", max_length=1024,
        description="As for `POST /jobs`. Without it, it is not checked, and times assume enough text.",
    )  # fmt: skip


class StageView(BaseModel):
    """One of the seven stages. `seconds`: time of the attempt that finished it, also if another job's."""

    name: str
    status: Literal["pending", "running", "finished", "failed", "cancelled"]
    seconds: float | None = None
    expected_seconds: float | None = Field(
        default=None,
        description="Expected seconds; null before the job has begun, and on machines that could not be measured.",
    )
    reused_from: str | None = Field(
        default=None, description="Your job that had already computed it; null if this one did."
    )


class JobErrorView(BaseModel):
    """Reason of a failed job. `code` is stable."""

    code: str
    message: str
    field: str | None = None
    remedy: str = ""
    user: bool = Field(
        description=(
            "Whether the request is at fault, and must be changed; otherwise the service is, and a retry may help."
        )
    )


class JobLinks(BaseModel):
    """Paths of the job's sub-resources."""

    self: str
    events: str
    trials: str
    metrics: str
    artifacts: str


class JobSummary(BaseModel):
    """A job in a list. `GET /jobs/{id}` has its settings, stages and result."""

    id: str = Field(examples=["job_01k9t4ae5xfz3v2s6q0m8y1d7c"])
    status: JobStatus
    stage: str | None = Field(description="The running stage; null before the first.")
    progress: float = Field(ge=0, le=1, description="Finished share of the whole job.")
    attempt: int = Field(description="Attempts so far. A job that loses its worker gets another.")
    max_attempts: int
    cancel_requested: bool = Field(description="Cancellation was requested, and its worker has not stopped yet.")
    model: str
    dataset: str
    memory_budget: int = Field(
        description="Bytes of the loaded model's weights: as requested, or left by the device of `fit`."
    )
    labels: dict[str, str]
    priority: int = Field(description="Order among your own waiting jobs: the highest first.")
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    dense_bytes: int | None = Field(description="Bytes of the loaded model before; null until the job succeeds.")
    final_bytes: int | None = Field(description="Bytes of the loaded model after; null until the job succeeds.")
    error: JobErrorView | None = Field(description="Error of a failed job.")
    links: JobLinks

    @classmethod
    def of(cls, job: Job) -> Self:
        """The summary of ``job``."""
        return cls(**_summary(job))


class QueueView(BaseModel):
    """Place of a waiting job in the queue."""

    ahead: int = Field(description="Number of jobs of all users that are currently ahead of it.")


class JobView(JobSummary):
    """A job and its state."""

    model_config = ConfigDict(title="Job")
    config: dict[str, Any] = Field(description="Every setting of the run, including defaults.")
    deadline: int | None = Field(
        description="Time limit in seconds from the first start to the end; null for jobs of earlier releases."
    )
    deadline_at: datetime | None = Field(description="End of that time limit; null before the first start.")
    stages: list[StageView]
    queue: QueueView | None = Field(
        description="Place in the queue; null unless the job waits, and in the response to its submission."
    )
    expected_start: datetime | None = Field(description="Expected start; null unless the job waits, and if unknown.")
    expected_end: datetime | None = Field(description="Expected end; null once it has ended, and if unknown.")
    result: CompressionReport | None = Field(description="The report of a succeeded job.")

    @classmethod
    def of(cls, job: Job, finished: Mapping[str, FinishedStage] = {}, outlook: Outlook | None = None) -> Self:
        """The view of ``job`` with its ``finished`` stages; ``outlook``: of an unfinished job."""
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
    return _pending(name) if expected is None else StageView(name=name, status="pending", expected_seconds=expected)


@cache
def _pending(name: str) -> StageView:
    return StageView(name=name, status="pending")


class JobPage(BaseModel):
    """A page of jobs, newest first."""

    jobs: list[JobSummary]
    next_cursor: str | None = Field(description="Send it as `cursor` for older jobs; null on the last page.")


class TrialView(BaseModel):
    """One allocation that the search tried."""

    index: int
    origin: str = Field(description="Origin of the proposal.", examples=["uniform", "knapsack", "random", "bayesian"])
    precisions: list[str] = Field(description="Precision of each of `groups`, in order.")
    bytes: int = Field(description="Bytes of the loaded model.")
    loss: float = Field(description="Nats per token on calibration text; lower is better.")
    stopped_early: bool = Field(
        default=False, description="Whether only part of the text was measured, because its loss was hopeless."
    )


class TrialList(BaseModel):
    """Every measured allocation, and the non-dominated ones in bytes and loss."""

    groups: list[str] = Field(
        description=(
            "Units that each have their own precision: by `allocate.granularity` a layer, its attention or "
            "MLP, or a module; and the embeddings and the head. Empty until the score stage has finished."
        ),
        examples=[["layers.0.attention", "layers.0.mlp", "layers.1.attention", "layers.1.mlp", "embeddings"]],
    )
    trials: list[TrialView]
    pareto_front: list[int] = Field(description="Indices of the non-dominated trials, by bytes.")
    selected: int | None = Field(description="Index of the trial in the result; null until the job succeeds.")


class AllocationView(BaseModel):
    """The best known allocation for another budget, from the job's scores and trials."""

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
    memory_budget: int = Field(description="Requested bytes.")
    groups: list[str] = Field(description="Units that each have their own precision.")
    precisions: list[str] = Field(description="Precision of each group.")
    bytes: int = Field(description="Bytes of the loaded model.")
    loss: float = Field(description="Nats per token on calibration text, before recovery; lower is better.")
    measured: bool = Field(description="Whether a trial measured the loss; otherwise it is predicted.")


class CurvePoint(BaseModel):
    """One point of a curve."""

    step: int
    value: float


class JobMetricsView(BaseModel):
    """The curves of a job, and the measurements before and after."""

    curves: dict[str, list[CurvePoint]] = Field(description="By name, such as `finetune.loss`.")
    measurements: list[Measurement] = Field(description="Empty until the job succeeds.")


class StoredArtifact(BaseModel):
    """A stored file."""

    name: str = Field(examples=["model.gguf"])
    bytes: int
    sha256: str
    format: str = Field(examples=["gguf"])
    url: str = Field(description="Needs no key; supports GET with Range until `expires_at`.")
    expires_at: datetime

    @classmethod
    def of(cls, artifact: Artifact, url: str, expires_at: datetime) -> Self:
        """The view of ``artifact``, available at ``url`` until ``expires_at``."""
        return cls(
            name=artifact.name, bytes=artifact.bytes, sha256=artifact.sha256, format=artifact.format, url=url,
            expires_at=expires_at,
        )  # fmt: skip


class ArtifactView(StoredArtifact):
    """A file to download, and how to use it."""

    title: str = Field(description="Description of the file.", examples=["one file for llama.cpp and Ollama"])
    unpack: str | None = Field(description="The command that unpacks it; null if it is used as it is.")
    snippets: list[Snippet] = Field(
        description="Commands or code that run it, once unpacked, per tool; empty for documents and in older jobs."
    )


class ArtifactList(BaseModel):
    """Every file of a job, the recommended one first."""

    artifacts: list[ArtifactView]

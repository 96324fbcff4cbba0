"""The events of a job as requests return them: one model per type, told apart by ``type``."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, RootModel

from app.jobs.models import JobEvent
from qpruner_core.events import StageName

_Stage = Annotated[StageName, Field(description="The stage that the event is about.")]


class _Data(BaseModel):
    """Rows that an earlier release wrote may lack what has a default here, and hold what is gone."""

    model_config = ConfigDict(extra="allow")


class NoData(_Data):
    """Nothing beyond the event's type and time."""


class StartedData(_Data):
    """Which worker took the job."""

    attempt: int = Field(default=1, description="Number of the attempt, from 1.", examples=[1])
    worker: str = Field(default="", description="Host and process id of the worker.", examples=["gpu-host:4711"])


class StageStartedData(_Data):
    """A stage that begins, and its expected time."""

    stage: _Stage
    attempt: int | None = Field(default=None, description="Number of the attempt.", examples=[1])
    expected_seconds: float | None = Field(default=None, description="Expected seconds of this stage.", examples=[42.5])
    expected_later_seconds: float | None = Field(
        default=None, description="Expected seconds of all stages after it.", examples=[130.0]
    )


class StageProgressData(_Data):
    """How far a stage is."""

    stage: _Stage
    fraction: float = Field(ge=0, le=1, description="Share of this stage that is done.", examples=[0.4])
    message: str = Field(default="", description="What the stage is doing.", examples=["trial 16 of 40"])


class StageFinishedData(_Data):
    """A stage whose files are stored."""

    stage: _Stage
    seconds: float = Field(description="Seconds it took where it was computed.", examples=[41.2])
    summary: dict[str, Any] = Field(default={}, description="Figures of the stage; they differ from stage to stage.")
    resumed: bool = Field(default=False, description="Whether an earlier attempt or another job had computed it.")
    reused_from: str | None = Field(default=None, description="Id of the job that had computed it.")


class WarningData(_Data):
    """Something to know that does not stop the job."""

    stage: StageName | None = Field(default=None, description="The stage that gave it; null outside of stages.")
    message: str = Field(default="", description="The warning, in a sentence.", examples=["The store does not answer."])


class AttemptLostData(_Data):
    """Why an attempt ended before its job did."""

    attempt: int = Field(default=1, description="Number of the attempt.", examples=[1])
    counted: bool = Field(default=True, description="Whether it counts against `max_attempts`.")
    code: str = Field(default="worker_lost", description="Stable identifier of the reason.", examples=["worker_lost"])
    reason: str = Field(default="", description="The reason, in a sentence.", examples=["The worker fell silent."])


class CancelledData(_Data):
    """Where the job was when it was cancelled."""

    stage: StageName | None = Field(default=None, description="The stage at work; null before the first.")


class FailedData(_Data):
    """Why the job failed: the same as its `error`."""

    code: str = Field(description="Stable identifier of the reason.", examples=["training_diverged"])
    message: str = Field(description="The reason, in a sentence.", examples=["The loss became NaN at step 31."])
    field: str | None = Field(default=None, description="Dotted path of the setting at fault.")
    remedy: str = Field(default="", description="What to do about it.")
    user: bool = Field(default=False, description="Whether the request is at fault; else the service is.")


class _Event(BaseModel):
    id: int = Field(description="Grows; what `after` and `Last-Event-ID` name.", examples=[17])
    created_at: datetime = Field(description="When it happened.", examples=["2026-11-28T12:00:00Z"])


class QueuedEvent(_Event):
    """The job was submitted."""

    type: Literal["queued"] = Field(description="The kind of event.")
    data: NoData = Field(description="Empty.")


class StartedEvent(_Event):
    """A worker took the job."""

    type: Literal["started"] = Field(description="The kind of event.")
    data: StartedData = Field(description="Attempt and worker.")


class StageStartedEvent(_Event):
    """A stage began."""

    type: Literal["stage_started"] = Field(description="The kind of event.")
    data: StageStartedData = Field(description="The stage and its expected time.")


class StageProgressEvent(_Event):
    """A stage went on; at most one per second."""

    type: Literal["stage_progress"] = Field(description="The kind of event.")
    data: StageProgressData = Field(description="The stage and how far it is.")


class StageFinishedEvent(_Event):
    """A stage finished, and its files are stored."""

    type: Literal["stage_finished"] = Field(description="The kind of event.")
    data: StageFinishedData = Field(description="The stage, its time and its figures.")


class WarningEvent(_Event):
    """The job goes on, but there is something to know."""

    type: Literal["warning"] = Field(description="The kind of event.")
    data: WarningData = Field(description="The warning.")


class AttemptLostEvent(_Event):
    """The worker was lost or stopped; the job is queued again, or fails once its attempts are used up."""

    type: Literal["attempt_lost"] = Field(description="The kind of event.")
    data: AttemptLostData = Field(description="The attempt and the reason.")


class CancelRequestedEvent(_Event):
    """The job was asked to stop."""

    type: Literal["cancel_requested"] = Field(description="The kind of event.")
    data: NoData = Field(description="Empty.")


class CancelledEvent(_Event):
    """The job was cancelled. It is the last event, unless the job is retried."""

    type: Literal["cancelled"] = Field(description="The kind of event.")
    data: CancelledData = Field(description="Where the job was.")


class FailedEvent(_Event):
    """The job failed. It is the last event, unless the job is retried."""

    type: Literal["failed"] = Field(description="The kind of event.")
    data: FailedData = Field(description="The reason.")


class SucceededEvent(_Event):
    """The job succeeded. It is the last event."""

    type: Literal["succeeded"] = Field(description="The kind of event.")
    data: NoData = Field(description="Empty; the job has its `result`.")


class RetriedEvent(_Event):
    """The job was queued again after it had failed or was cancelled."""

    type: Literal["retried"] = Field(description="The kind of event.")
    data: NoData = Field(description="Empty.")


_AnyEvent = (
    QueuedEvent | StartedEvent | StageStartedEvent | StageProgressEvent | StageFinishedEvent | WarningEvent
    | AttemptLostEvent | CancelRequestedEvent | CancelledEvent | FailedEvent | SucceededEvent | RetriedEvent
)  # fmt: skip


class EventView(RootModel[Annotated[_AnyEvent, Field(discriminator="type")]]):
    """One line of a job's history. `data` depends on `type`."""

    @classmethod
    def of(cls, event: JobEvent) -> Self:
        """The view of ``event``."""
        row = {"id": event.id, "type": event.type, "data": event.data, "created_at": event.created_at}
        return cls.model_validate(row)

    @property
    def id(self) -> int:
        """What ``Last-Event-ID`` names."""
        return self.root.id

    @property
    def type(self) -> str:
        """The kind of event."""
        return self.root.type

    @property
    def data(self) -> dict[str, Any]:
        """What is known of it, as it was recorded."""
        return self.root.data.model_dump(exclude_unset=True)


class EventPage(BaseModel):
    """Some of a job's history, the oldest first."""

    events: list[EventView] = Field(description="The events, by id.")
    next_after: int | None = Field(description="Give it as `after` to read on; null if this was all there is yet.")

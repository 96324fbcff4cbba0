"""The events of a job as returned by requests: one model per type, distinguished by ``type``."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from datetime import datetime
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, RootModel, ValidationError

from app.jobs.models import JobEvent
from qpruner_core.events import StageName

_LOG = logging.getLogger(__name__)
_skipped: set[str] = set()
"""Types of events that were logged as unreadable."""
_Stage = Annotated[StageName, Field(description="The stage that the event is about.")]


class _Data(BaseModel):
    """Rows of an earlier release may lack fields with a default here, and contain removed ones."""

    model_config = ConfigDict(extra="allow")


class NoData(_Data):
    """No data beyond the event's type and time."""


class StartedData(_Data):
    """Which worker took the job."""

    attempt: int = Field(default=1, description="Number of the attempt, from 1.", examples=[1])
    worker: str = Field(default="", description="Host and process id of the worker.", examples=["gpu-host:4711"])


class StageStartedData(_Data):
    """A starting stage, and its expected time."""

    stage: _Stage
    attempt: int | None = Field(default=None, description="Number of the attempt.", examples=[1])
    expected_seconds: float | None = Field(default=None, description="Expected seconds of this stage.", examples=[42.5])
    expected_later_seconds: float | None = Field(
        default=None, description="Expected seconds of all stages after it.", examples=[130.0]
    )


class StageProgressData(_Data):
    """Progress of a stage."""

    stage: _Stage
    fraction: float = Field(ge=0, le=1, description="Finished share of this stage.", examples=[0.4])
    message: str = Field(default="", description="Present activity of the stage.", examples=["trial 16 of 40"])


class StageFinishedData(_Data):
    """A stage whose files are stored."""

    stage: _Stage
    seconds: float = Field(description="Seconds of the computation.", examples=[41.2])
    summary: dict[str, Any] = Field(default={}, description="Figures of the stage; they differ from stage to stage.")
    resumed: bool = Field(default=False, description="Whether an earlier attempt or another job computed it.")
    reused_from: str | None = Field(default=None, description="Id of the job that computed it.")


class WarningData(_Data):
    """A warning that does not stop the job."""

    stage: StageName | None = Field(default=None, description="The stage that gave it; null outside of stages.")
    message: str = Field(default="", description="The warning, in a sentence.", examples=["The store is unreachable."])


class AttemptLostData(_Data):
    """Reason why an attempt ended before its job."""

    attempt: int = Field(default=1, description="Number of the attempt.", examples=[1])
    counted: bool = Field(default=True, description="Whether it counts against `max_attempts`.")
    code: str = Field(default="worker_lost", description="Stable identifier of the reason.", examples=["worker_lost"])
    reason: str = Field(default="", description="The reason, in a sentence.", examples=["The worker fell silent."])


class CancelledData(_Data):
    """State of the job when it was cancelled."""

    stage: StageName | None = Field(default=None, description="The running stage; null before the first.")


class FailedData(_Data):
    """Reason of the failure: the same as the job's `error`."""

    code: str = Field(description="Stable identifier of the reason.", examples=["training_diverged"])
    message: str = Field(description="The reason, in a sentence.", examples=["The loss became NaN at step 31."])
    field: str | None = Field(default=None, description="Dotted path of the setting at fault.")
    remedy: str = Field(default="", description="Suggested remedy.")
    user: bool = Field(default=False, description="Whether the request is at fault; otherwise the service is.")


class _Event(BaseModel):
    id: int = Field(description="Increasing id; the value for `after` and `Last-Event-ID`.", examples=[17])
    created_at: datetime = Field(description="Time of the event.", examples=["2026-11-28T12:00:00Z"])


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
    """Progress of a stage; at most one event per second."""

    type: Literal["stage_progress"] = Field(description="The kind of event.")
    data: StageProgressData = Field(description="Progress of the stage.")


class StageFinishedEvent(_Event):
    """A stage finished, and its files are stored."""

    type: Literal["stage_finished"] = Field(description="The kind of event.")
    data: StageFinishedData = Field(description="The stage, its time and its figures.")


class WarningEvent(_Event):
    """A warning; the job continues."""

    type: Literal["warning"] = Field(description="The kind of event.")
    data: WarningData = Field(description="The warning.")


class AttemptLostEvent(_Event):
    """The worker was lost or stopped; the job is queued again, or fails once its attempts are used up."""

    type: Literal["attempt_lost"] = Field(description="The kind of event.")
    data: AttemptLostData = Field(description="The attempt and the reason.")


class CancelRequestedEvent(_Event):
    """Cancellation of the job was requested."""

    type: Literal["cancel_requested"] = Field(description="The kind of event.")
    data: NoData = Field(description="Empty.")


class CancelledEvent(_Event):
    """The job was cancelled. This is the last event, unless the job is retried."""

    type: Literal["cancelled"] = Field(description="The kind of event.")
    data: CancelledData = Field(description="State of the job at that time.")


class FailedEvent(_Event):
    """The job failed. This is the last event, unless the job is retried."""

    type: Literal["failed"] = Field(description="The kind of event.")
    data: FailedData = Field(description="The reason.")


class SucceededEvent(_Event):
    """The job succeeded. This is the last event."""

    type: Literal["succeeded"] = Field(description="The kind of event.")
    data: NoData = Field(description="Empty; the job has its `result`.")


class RetriedEvent(_Event):
    """The failed or cancelled job was queued again."""

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
        """The value for ``Last-Event-ID``."""
        return self.root.id

    @property
    def type(self) -> str:
        """The kind of event."""
        return self.root.type

    @property
    def data(self) -> dict[str, Any]:
        """The recorded data."""
        return self.root.data.model_dump(exclude_unset=True)


def readable(events: Iterable[JobEvent]) -> list[EventView]:
    """The views of ``events`` without unreadable ones: during a rolling upgrade, a newer release writes other types.

    The first of each type is logged.
    """
    views = []
    for event in events:
        try:
            views.append(EventView.of(event))
        except ValidationError as error:
            if event.type not in _skipped:
                _skipped.add(event.type)
                _LOG.warning(
                    "Events of type %r that this release cannot read are skipped; the first is %d of %s: %s",
                    event.type, event.id, event.job_id, error.errors(include_url=False, include_input=False)[0]["msg"],
                )  # fmt: skip
    return views


class EventPage(BaseModel):
    """Part of a job's history, oldest first."""

    events: list[EventView] = Field(description="The events, by id.")
    next_after: int | None = Field(description="Send it as `after` for later events; null if there are none yet.")

"""Bodies of responses. Generated from the OpenAPI description by ``generate_models.py``; not edited by hand."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import Field, RootModel

from qpruner_client.models.base import Model
from qpruner_client.models.event_data import (
    AttemptLostData,
    CancelledData,
    FailedData,
    NoData,
    StageFinishedData,
    StageProgressData,
    StageStartedData,
    StartedData,
    WarningData,
)


class AttemptLostEvent(Model):
    """The worker was lost or stopped; the job is queued again, or fails once its attempts are used up."""

    id: int
    """Increasing id; the value for `after` and `Last-Event-ID`."""

    created_at: datetime
    """Time of the event."""

    type: Literal["attempt_lost"]
    """The kind of event."""

    data: AttemptLostData
    """The attempt and the reason."""


class CancelRequestedEvent(Model):
    """Cancellation of the job was requested."""

    id: int
    """Increasing id; the value for `after` and `Last-Event-ID`."""

    created_at: datetime
    """Time of the event."""

    type: Literal["cancel_requested"]
    """The kind of event."""

    data: NoData
    """Empty."""


class CancelledEvent(Model):
    """The job was cancelled. This is the last event, unless the job is retried."""

    id: int
    """Increasing id; the value for `after` and `Last-Event-ID`."""

    created_at: datetime
    """Time of the event."""

    type: Literal["cancelled"]
    """The kind of event."""

    data: CancelledData
    """State of the job at that time."""


class QueuedEvent(Model):
    """The job was submitted."""

    id: int
    """Increasing id; the value for `after` and `Last-Event-ID`."""

    created_at: datetime
    """Time of the event."""

    type: Literal["queued"]
    """The kind of event."""

    data: NoData
    """Empty."""


class StartedEvent(Model):
    """A worker took the job."""

    id: int
    """Increasing id; the value for `after` and `Last-Event-ID`."""

    created_at: datetime
    """Time of the event."""

    type: Literal["started"]
    """The kind of event."""

    data: StartedData
    """Attempt and worker."""


class StageStartedEvent(Model):
    """A stage began."""

    id: int
    """Increasing id; the value for `after` and `Last-Event-ID`."""

    created_at: datetime
    """Time of the event."""

    type: Literal["stage_started"]
    """The kind of event."""

    data: StageStartedData
    """The stage and its expected time."""


class StageProgressEvent(Model):
    """Progress of a stage; at most one event per second."""

    id: int
    """Increasing id; the value for `after` and `Last-Event-ID`."""

    created_at: datetime
    """Time of the event."""

    type: Literal["stage_progress"]
    """The kind of event."""

    data: StageProgressData
    """Progress of the stage."""


class StageFinishedEvent(Model):
    """A stage finished, and its files are stored."""

    id: int
    """Increasing id; the value for `after` and `Last-Event-ID`."""

    created_at: datetime
    """Time of the event."""

    type: Literal["stage_finished"]
    """The kind of event."""

    data: StageFinishedData
    """The stage, its time and its figures."""


class WarningEvent(Model):
    """A warning; the job continues."""

    id: int
    """Increasing id; the value for `after` and `Last-Event-ID`."""

    created_at: datetime
    """Time of the event."""

    type: Literal["warning"]
    """The kind of event."""

    data: WarningData
    """The warning."""


class FailedEvent(Model):
    """The job failed. This is the last event, unless the job is retried."""

    id: int
    """Increasing id; the value for `after` and `Last-Event-ID`."""

    created_at: datetime
    """Time of the event."""

    type: Literal["failed"]
    """The kind of event."""

    data: FailedData
    """The reason."""


class SucceededEvent(Model):
    """The job succeeded. This is the last event."""

    id: int
    """Increasing id; the value for `after` and `Last-Event-ID`."""

    created_at: datetime
    """Time of the event."""

    type: Literal["succeeded"]
    """The kind of event."""

    data: NoData
    """Empty; the job has its `result`."""


class RetriedEvent(Model):
    """The failed or cancelled job was queued again."""

    id: int
    """Increasing id; the value for `after` and `Last-Event-ID`."""

    created_at: datetime
    """Time of the event."""

    type: Literal["retried"]
    """The kind of event."""

    data: NoData
    """Empty."""


class OtherEvent(Model):
    """One of a kind that this release does not know, by its ``type``."""

    id: int
    created_at: datetime
    type: str
    data: dict[str, Any]


class EventView(
    RootModel[
        Annotated[
            QueuedEvent
            | StartedEvent
            | StageStartedEvent
            | StageProgressEvent
            | StageFinishedEvent
            | WarningEvent
            | AttemptLostEvent
            | CancelRequestedEvent
            | CancelledEvent
            | FailedEvent
            | SucceededEvent
            | RetriedEvent
            | OtherEvent,
            Field(union_mode="left_to_right"),
        ]
    ]
):
    """One line of a job's history. `data` depends on `type`."""


class EventPage(Model):
    """Part of a job's history, oldest first."""

    events: list[EventView]
    """The events, by id."""

    next_after: int | None
    """Send it as `after` for later events; null if there are none yet."""

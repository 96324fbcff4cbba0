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
    """Grows; what `after` and `Last-Event-ID` name."""

    created_at: datetime
    """When it happened."""

    type: Literal["attempt_lost"]
    """The kind of event."""

    data: AttemptLostData
    """The attempt and the reason."""


class CancelRequestedEvent(Model):
    """The job was asked to stop."""

    id: int
    """Grows; what `after` and `Last-Event-ID` name."""

    created_at: datetime
    """When it happened."""

    type: Literal["cancel_requested"]
    """The kind of event."""

    data: NoData
    """Empty."""


class CancelledEvent(Model):
    """The job was cancelled. It is the last event, unless the job is retried."""

    id: int
    """Grows; what `after` and `Last-Event-ID` name."""

    created_at: datetime
    """When it happened."""

    type: Literal["cancelled"]
    """The kind of event."""

    data: CancelledData
    """Where the job was."""


class QueuedEvent(Model):
    """The job was submitted."""

    id: int
    """Grows; what `after` and `Last-Event-ID` name."""

    created_at: datetime
    """When it happened."""

    type: Literal["queued"]
    """The kind of event."""

    data: NoData
    """Empty."""


class StartedEvent(Model):
    """A worker took the job."""

    id: int
    """Grows; what `after` and `Last-Event-ID` name."""

    created_at: datetime
    """When it happened."""

    type: Literal["started"]
    """The kind of event."""

    data: StartedData
    """Attempt and worker."""


class StageStartedEvent(Model):
    """A stage began."""

    id: int
    """Grows; what `after` and `Last-Event-ID` name."""

    created_at: datetime
    """When it happened."""

    type: Literal["stage_started"]
    """The kind of event."""

    data: StageStartedData
    """The stage and its expected time."""


class StageProgressEvent(Model):
    """A stage went on; at most one per second."""

    id: int
    """Grows; what `after` and `Last-Event-ID` name."""

    created_at: datetime
    """When it happened."""

    type: Literal["stage_progress"]
    """The kind of event."""

    data: StageProgressData
    """The stage and how far it is."""


class StageFinishedEvent(Model):
    """A stage finished, and its files are stored."""

    id: int
    """Grows; what `after` and `Last-Event-ID` name."""

    created_at: datetime
    """When it happened."""

    type: Literal["stage_finished"]
    """The kind of event."""

    data: StageFinishedData
    """The stage, its time and its figures."""


class WarningEvent(Model):
    """The job goes on, but there is something to know."""

    id: int
    """Grows; what `after` and `Last-Event-ID` name."""

    created_at: datetime
    """When it happened."""

    type: Literal["warning"]
    """The kind of event."""

    data: WarningData
    """The warning."""


class FailedEvent(Model):
    """The job failed. It is the last event, unless the job is retried."""

    id: int
    """Grows; what `after` and `Last-Event-ID` name."""

    created_at: datetime
    """When it happened."""

    type: Literal["failed"]
    """The kind of event."""

    data: FailedData
    """The reason."""


class SucceededEvent(Model):
    """The job succeeded. It is the last event."""

    id: int
    """Grows; what `after` and `Last-Event-ID` name."""

    created_at: datetime
    """When it happened."""

    type: Literal["succeeded"]
    """The kind of event."""

    data: NoData
    """Empty; the job has its `result`."""


class RetriedEvent(Model):
    """The job was queued again after it had failed or was cancelled."""

    id: int
    """Grows; what `after` and `Last-Event-ID` name."""

    created_at: datetime
    """When it happened."""

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
    """Some of a job's history, the oldest first."""

    events: list[EventView]
    """The events, by id."""

    next_after: int | None
    """Give it as `after` to read on; null if this was all there is yet."""

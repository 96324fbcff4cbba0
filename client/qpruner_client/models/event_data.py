"""Bodies of responses. Generated from the OpenAPI description by ``generate_models.py``; not edited by hand."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from qpruner_client.models.base import Model


class AttemptLostData(Model):
    """Why an attempt ended before its job did."""

    attempt: int = 1
    """Number of the attempt."""

    counted: bool = True
    """Whether it counts against `max_attempts`."""

    code: str = "worker_lost"
    """Stable identifier of the reason."""

    reason: str = ""
    """The reason, in a sentence."""


class NoData(Model):
    """Nothing beyond the event's type and time."""


class CancelledData(Model):
    """Where the job was when it was cancelled."""

    stage: Literal["prune", "score", "allocate", "quantize", "finetune", "export", "evaluate"] | str | None = None
    """The stage at work; null before the first."""


class StartedData(Model):
    """Which worker took the job."""

    attempt: int = 1
    """Number of the attempt, from 1."""

    worker: str = ""
    """Host and process id of the worker."""


class StageStartedData(Model):
    """A stage that begins, and its expected time."""

    stage: Literal["prune", "score", "allocate", "quantize", "finetune", "export", "evaluate"] | str
    """The stage that the event is about."""

    attempt: int | None = None
    """Number of the attempt."""

    expected_seconds: float | None = None
    """Expected seconds of this stage."""

    expected_later_seconds: float | None = None
    """Expected seconds of all stages after it."""


class StageProgressData(Model):
    """How far a stage is."""

    stage: Literal["prune", "score", "allocate", "quantize", "finetune", "export", "evaluate"] | str
    """The stage that the event is about."""

    fraction: float
    """Share of this stage that is done."""

    message: str = ""
    """What the stage is doing."""


class StageFinishedData(Model):
    """A stage whose files are stored."""

    stage: Literal["prune", "score", "allocate", "quantize", "finetune", "export", "evaluate"] | str
    """The stage that the event is about."""

    seconds: float
    """Seconds it took where it was computed."""

    summary: dict[str, Any] = Field(default_factory=dict)
    """Figures of the stage; they differ from stage to stage."""

    resumed: bool = False
    """Whether an earlier attempt or another job had computed it."""

    reused_from: str | None = None
    """Id of the job that had computed it."""


class WarningData(Model):
    """Something to know that does not stop the job."""

    stage: Literal["prune", "score", "allocate", "quantize", "finetune", "export", "evaluate"] | str | None = None
    """The stage that gave it; null outside of stages."""

    message: str = ""
    """The warning, in a sentence."""


class FailedData(Model):
    """Why the job failed: the same as its `error`."""

    code: str
    """Stable identifier of the reason."""

    message: str
    """The reason, in a sentence."""

    field: str | None = None
    """Dotted path of the setting at fault."""

    remedy: str = ""
    """What to do about it."""

    user: bool = False
    """Whether the request is at fault; else the service is."""

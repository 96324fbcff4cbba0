"""Bodies of responses. Generated from the OpenAPI description by ``generate_models.py``; not edited by hand."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from qpruner_client.models.base import Model


class AttemptLostData(Model):
    """Reason why an attempt ended before its job."""

    attempt: int = 1
    """Number of the attempt."""

    counted: bool = True
    """Whether it counts against `max_attempts`."""

    code: str = "worker_lost"
    """Stable identifier of the reason."""

    reason: str = ""
    """The reason, in a sentence."""


class NoData(Model):
    """No data beyond the event's type and time."""


class CancelledData(Model):
    """State of the job when it was cancelled."""

    stage: Literal["prune", "score", "allocate", "quantize", "finetune", "export", "evaluate"] | str | None = None
    """The running stage; null before the first."""


class StartedData(Model):
    """Which worker took the job."""

    attempt: int = 1
    """Number of the attempt, from 1."""

    worker: str = ""
    """Host and process id of the worker."""


class StageStartedData(Model):
    """A starting stage, and its expected time."""

    stage: Literal["prune", "score", "allocate", "quantize", "finetune", "export", "evaluate"] | str
    """The stage that the event is about."""

    attempt: int | None = None
    """Number of the attempt."""

    expected_seconds: float | None = None
    """Expected seconds of this stage."""

    expected_later_seconds: float | None = None
    """Expected seconds of all stages after it."""


class StageProgressData(Model):
    """Progress of a stage."""

    stage: Literal["prune", "score", "allocate", "quantize", "finetune", "export", "evaluate"] | str
    """The stage that the event is about."""

    fraction: float
    """Finished share of this stage."""

    message: str = ""
    """Present activity of the stage."""


class StageFinishedData(Model):
    """A stage whose files are stored."""

    stage: Literal["prune", "score", "allocate", "quantize", "finetune", "export", "evaluate"] | str
    """The stage that the event is about."""

    seconds: float
    """Seconds of the computation."""

    summary: dict[str, Any] = Field(default_factory=dict)
    """Figures of the stage; they differ from stage to stage."""

    resumed: bool = False
    """Whether an earlier attempt or another job computed it."""

    reused_from: str | None = None
    """Id of the job that computed it."""


class WarningData(Model):
    """A warning that does not stop the job."""

    stage: Literal["prune", "score", "allocate", "quantize", "finetune", "export", "evaluate"] | str | None = None
    """The stage that gave it; null outside of stages."""

    message: str = ""
    """The warning, in a sentence."""


class FailedData(Model):
    """Reason of the failure: the same as the job's `error`."""

    code: str
    """Stable identifier of the reason."""

    message: str
    """The reason, in a sentence."""

    field: str | None = None
    """Dotted path of the setting at fault."""

    remedy: str = ""
    """Suggested remedy."""

    user: bool = False
    """Whether the request is at fault; otherwise the service is."""

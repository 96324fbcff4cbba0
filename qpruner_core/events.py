"""Events of a run, and the token that cancels it.

Every event is a small frozen model with a ``type``. A callback receives them in order; the worker's child process
writes each as one JSON line to its supervisor.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from qpruner_core.errors import CancelledError

StageName = Literal["prune", "score", "allocate", "quantize", "finetune", "export", "evaluate"]
STAGES: tuple[StageName, ...] = ("prune", "score", "allocate", "quantize", "finetune", "export", "evaluate")


class FileRecord(BaseModel):
    """One file of a stage or an export: path relative to its directory (POSIX), size in bytes, SHA-256 in hex."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    path: str
    bytes: int
    sha256: str


class _Event(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class TimesExpected(_Event):
    """Sent before the first stage: the expected ``seconds`` of each stage on this machine."""

    type: Literal["times_expected"] = "times_expected"
    seconds: dict[StageName, float]


class MachineSpeedKnown(_Event):
    """Speed of this machine: a :class:`qpruner_core.speed.record.SpeedRecord`. Sent before the first stage, and again
    after a stage has added to it."""

    type: Literal["machine_speed_known"] = "machine_speed_known"
    record: dict[str, Any]


class StageStarted(_Event):
    """A stage begins. ``expected_seconds``: its estimate on this machine before the run; ``expected_later_seconds``:
    that of all later stages together."""

    type: Literal["stage_started"] = "stage_started"
    stage: StageName
    expected_seconds: float | None = None
    expected_later_seconds: float | None = None


class StageProgress(_Event):
    """Progress of a stage: ``fraction`` in [0, 1]."""

    type: Literal["stage_progress"] = "stage_progress"
    stage: StageName
    fraction: float = Field(ge=0, le=1)
    message: str = ""


class StageFinished(_Event):
    """A stage's result is complete on disk in ``directory``; ``resumed`` if an earlier call or another run had finished
    it. ``key`` digests all inputs: the same key means the same files."""

    type: Literal["stage_finished"] = "stage_finished"
    stage: StageName
    key: str
    directory: str
    files: list[FileRecord]
    summary: dict[str, Any]
    seconds: float
    resumed: bool = False


class TrialRecorded(_Event):
    """One trial of an allocation: precisions of the groups, bytes of the loaded model, loss in nats per token.
    ``screening_loss``: loss on the first part of the text, the only one measured if ``stopped_early``."""

    type: Literal["trial"] = "trial"
    index: int
    origin: str
    precisions: list[str]
    bytes: int
    loss: float
    screening_loss: float | None = None
    stopped_early: bool = False


class MetricRecorded(_Event):
    """One point of a curve, such as ``finetune.loss`` at an optimiser step."""

    type: Literal["metric"] = "metric"
    name: str
    step: int
    value: float


class RunWarning(_Event):
    """A warning for the user that does not stop the run."""

    type: Literal["warning"] = "warning"
    stage: StageName | None = None
    message: str


Event = Annotated[
    TimesExpected
    | MachineSpeedKnown
    | StageStarted
    | StageProgress
    | StageFinished
    | TrialRecorded
    | MetricRecorded
    | RunWarning,
    Field(discriminator="type"),
]
EventCallback = Callable[[Event], None]
EVENT_ADAPTER: TypeAdapter[Event] = TypeAdapter(Event)


def ignore_event(event: Event) -> None:
    """Event callback that ignores all events."""


class CancelToken:
    """Cancels a run; stages check it between batches. Safe to set from any thread."""

    def __init__(self) -> None:
        self._event = threading.Event()

    def cancel(self) -> None:
        """Cancel the run at its next check."""
        self._event.set()

    @property
    def cancelled(self) -> bool:
        """Whether :meth:`cancel` was called."""
        return self._event.is_set()

    def raise_if_cancelled(self) -> None:
        """Raise :class:`CancelledError` if :meth:`cancel` was called."""
        if self.cancelled:
            raise CancelledError(
                "The run was cancelled.", remedy=("Run it again to resume after the last finished stage.")
            )

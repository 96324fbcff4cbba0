"""Messages between supervisor and child: one JSON object per line.

The first line of the child's standard input is a :class:`ChildRequest`; the input then stays open as its lifeline. Its
standard output carries the events of :mod:`qpruner_core.events` and ends with a result or an error. Before it computes
a stage it writes a :class:`StageWanted`, and waits for a :class:`StageAnswer` on its input; for trials that several
machines measure, a :class:`TrialWanted` and a :class:`TrialTurn`.
"""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from qpruner_core.config import CompressionConfig
from qpruner_core.errors import QPrunerError, UserError
from qpruner_core.events import Event, StageName
from qpruner_core.report import CompressionReport
from qpruner_core.search.trial import Proposal, TrialMeasurement
from qpruner_core.source_policy import SourcePolicy
from qpruner_core.strict import StrictModel


class ChildRequest(StrictModel):
    """One run of the pipeline; ``trials``: whether its search offers them to others, or is another's, to be helped."""

    config: CompressionConfig
    policy: SourcePolicy
    output: Path
    work_dir: Path
    trials: Literal["alone", "shared", "of_another"] = "alone"


class StageAnswer(StrictModel):
    """Whether the files of the requested stage ``key`` are in ``work_dir`` now; ``None``: the search is in progress,
    and another answer follows."""

    found: bool | None
    key: str = ""


class TrialSpec(StrictModel):
    """A :class:`qpruner_core.search.trial.Proposal` as JSON; ``stop_above`` is null where nothing is hopeless."""

    index: int
    origin: str
    precisions: tuple[str, ...]
    bytes: int
    sequences: int
    screening: int
    stop_above: float | None

    @classmethod
    def of(cls, proposal: Proposal) -> TrialSpec:
        """Message with a ``proposal``."""
        stop = proposal.stop_above
        return cls(**{**vars(proposal), "stop_above": stop if math.isfinite(stop) else None})

    def proposal(self) -> Proposal:
        """Its content."""
        return Proposal(**{**self.model_dump(), "stop_above": math.inf if self.stop_above is None else self.stop_above})


class TrialLoss(StrictModel):
    """A :class:`qpruner_core.search.trial.TrialMeasurement`, whose numbers it has to the last bit."""

    loss: float
    screening_loss: float
    sequences: int
    seconds: float

    @classmethod
    def of(cls, measurement: TrialMeasurement) -> TrialLoss:
        """Message with a ``measurement``."""
        return cls(**vars(measurement))

    def measurement(self) -> TrialMeasurement:
        """Its content."""
        return TrialMeasurement(**self.model_dump())


class TrialTurn(StrictModel):
    """Trial that the child measures next, if any, and the results of others, by index."""

    measure: TrialSpec | None
    measured: dict[int, TrialLoss] = Field(default_factory=dict)


class _Line(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class StageWanted(_Line):
    """The child is about to compute a stage, and requests its files for this key.

    Sent at ``asked`` (seconds since the epoch). The child computes the stage itself if the search has not begun after
    ``patience`` seconds: its supervisor may wait for an unavailable database or store.
    """

    type: Literal["stage_wanted"] = "stage_wanted"
    stage: StageName
    key: str
    asked: float = Field(default_factory=time.time)
    patience: float = 10.0

    def is_waited_for(self) -> bool:
        """Whether the child still waits for an answer, with some margin."""
        return time.time() - self.asked < self.patience / 2


class TrialsOffered(_Line):
    """The search of the child has these to be measured, by itself and by machines that are like ``machine``."""

    type: Literal["trials_offered"] = "trials_offered"
    machine: str
    trials: list[TrialSpec]


class TrialWanted(_Line):
    """The child waits for a :class:`TrialTurn` on its input."""

    type: Literal["trial_wanted"] = "trial_wanted"


class TrialMeasured(_Line):
    """The child has measured a trial that it was given."""

    type: Literal["trial_measured"] = "trial_measured"
    index: int
    loss: TrialLoss


class HelperReady(_Line):
    """A child that measures another's trials tells what its machine is."""

    type: Literal["helper_ready"] = "helper_ready"
    machine: str


class RunResult(_Line):
    """The run succeeded; its files are in the request's ``output``."""

    type: Literal["result"] = "result"
    report: CompressionReport


class RunError(_Line):
    """The run failed with a named error; ``user`` if the request is at fault."""

    type: Literal["error"] = "error"
    code: str
    message: str
    field: str | None
    remedy: str
    user: bool

    @classmethod
    def of(cls, error: QPrunerError) -> RunError:
        """The line that reports ``error``."""
        return cls(
            code=error.code, message=error.message, field=error.field, remedy=error.remedy,
            user=isinstance(error, UserError),
        )  # fmt: skip


Answer = StageAnswer | TrialTurn
ANSWER_ADAPTER: TypeAdapter[Answer] = TypeAdapter(Answer)
Trials = TrialsOffered | TrialWanted | TrialMeasured | HelperReady
Line = Annotated[Event | StageWanted | Trials | RunResult | RunError, Field(discriminator="type")]
LINE_ADAPTER: TypeAdapter[Line] = TypeAdapter(Line)

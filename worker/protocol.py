"""Messages between supervisor and child: one JSON object per line.

The first line of the child's standard input is a :class:`ChildRequest`; the input then stays open as its lifeline. Its
standard output carries the events of :mod:`qpruner_core.events` and ends with a result or an error. Before it computes
a stage it writes a :class:`StageWanted`, and waits for a :class:`StageAnswer` on its input.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from qpruner_core.config import CompressionConfig
from qpruner_core.errors import QPrunerError, UserError
from qpruner_core.events import Event, StageName
from qpruner_core.report import CompressionReport
from qpruner_core.source_policy import SourcePolicy
from qpruner_core.strict import StrictModel


class ChildRequest(StrictModel):
    """One run of the pipeline."""

    config: CompressionConfig
    policy: SourcePolicy
    output: Path
    work_dir: Path


class StageAnswer(StrictModel):
    """Whether the files of the requested stage ``key`` are in ``work_dir`` now; ``None``: the search is in progress,
    and another answer follows."""

    found: bool | None
    key: str = ""


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


Line = Annotated[Event | StageWanted | RunResult | RunError, Field(discriminator="type")]
LINE_ADAPTER: TypeAdapter[Line] = TypeAdapter(Line)

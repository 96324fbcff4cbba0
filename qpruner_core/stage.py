"""Input of every stage."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from transformers import PretrainedConfig

from qpruner_core.compute.config import Compute
from qpruner_core.config import CompressionConfig
from qpruner_core.data import PreparedData
from qpruner_core.events import CancelToken, Event, EventCallback, RunWarning, StageName, StageProgress
from qpruner_core.models import ModelSource
from qpruner_core.models.families import Family
from qpruner_core.models.reshape import Shape
from qpruner_core.prune.config import PruneConfig
from qpruner_core.report import DeviceMemory
from qpruner_core.search.exchange import TrialExchange, TrialHelper
from qpruner_core.stage_store import StageStore
from qpruner_core.targets.base import Target


@dataclass(frozen=True)
class RunPlan:
    """Results of planning: the dense config, the effective ratio, its shape, and the byte budget of the weights.

    ``prune``: the effective settings, and ``notes`` why they differ from those given. ``target`` has the precisions of
    the search. ``shape`` is ``None`` if it depends on the data; the pruned checkpoint's config always has the widths.
    """

    dense_config: PretrainedConfig
    family: Family
    ratio: float
    prune: PruneConfig
    shape: Shape | None
    target: Target
    memory_budget: int
    device: DeviceMemory | None = None
    notes: tuple[str, ...] = ()


@dataclass
class StageContext:
    """The run from the view of one stage: settings, sources, finished earlier stages, and event callbacks.

    ``exchange``: where the search offers trials to other machines. ``helper``: gives the trials of another machine's
    search, which is all that the run is for.
    """

    stage: StageName
    config: CompressionConfig
    source: ModelSource
    dataset_sha256: str
    plan: RunPlan
    data: Callable[[], PreparedData]
    store: StageStore
    emit: EventCallback
    cancel: CancelToken
    compute: Compute
    warnings: list[str] = field(default_factory=list)
    exchange: TrialExchange | None = None
    helper: TrialHelper | None = None

    def finished(self, stage: StageName) -> Path:
        """The directory of a finished stage."""
        return self.store.directory(stage)

    def progress(self, fraction: float, message: str = "") -> None:
        """Report the progress of this stage, in [0, 1]; stops the stage if the run is cancelled."""
        self.cancel.raise_if_cancelled()
        self.emit(StageProgress(stage=self.stage, fraction=min(max(fraction, 0.0), 1.0), message=message))

    def warn(self, message: str) -> None:
        """Warn the user without stopping the run; warnings are also kept for the report."""
        self.warnings.append(message)
        self.emit(RunWarning(stage=self.stage, message=message))

    def tell(self, event: Event) -> None:
        """Emit any other event."""
        self.emit(event)

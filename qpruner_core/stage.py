"""What every stage is given."""

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
    """What was worked out before any work: the dense config, the ratio in force, the shape that it means, and the bytes
    that the weights may take.

    ``prune``: the settings in force, and ``notes`` why they differ from those given. ``target`` has the precisions
    that the search may use. ``shape`` is ``None`` where it is found only from the data; the pruned checkpoint's config
    always tells the widths.
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
    """The run as one stage sees it: settings, sources, finished stages before it, and ears to speak to.

    ``exchange``: where the search offers trials to other machines. ``helper``: the run is there for another's search
    alone, whose trials it measures.
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
        """The directory of a stage that is finished."""
        return self.store.directory(stage)

    def progress(self, fraction: float, message: str = "") -> None:
        """Tell how far this stage is, in [0, 1]; stops the stage if the run is cancelled."""
        self.cancel.raise_if_cancelled()
        self.emit(StageProgress(stage=self.stage, fraction=min(max(fraction, 0.0), 1.0), message=message))

    def warn(self, message: str) -> None:
        """Tell the user something that does not stop the run; it is also kept for the report."""
        self.warnings.append(message)
        self.emit(RunWarning(stage=self.stage, message=message))

    def tell(self, event: Event) -> None:
        """Emit any other event."""
        self.emit(event)

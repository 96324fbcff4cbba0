"""Location of a run's model before and after recovery."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from qpruner_core.events import StageName
from qpruner_core.stage import StageContext

MODEL = "model"
ADAPTER = "adapter"


class MixedCheckpoint(NamedTuple):
    """Directories of a mixed-precision model, and of its adapter if it has one."""

    model: Path
    adapter: Path | None


def quantized_model(context: StageContext) -> MixedCheckpoint:
    """The output of the quantize stage."""
    return _of(context, "quantize")


def recovered_model(context: StageContext) -> MixedCheckpoint:
    """The output of the finetune stage, which is exported."""
    return _of(context, "finetune")


def _of(context: StageContext, stage: StageName) -> MixedCheckpoint:
    """Whether an adapter ships beside the model that it was trained on, which is then still the quantize stage's."""
    adapter = context.finished(stage) / ADAPTER
    if adapter.is_dir():
        return MixedCheckpoint(context.finished("quantize") / MODEL, adapter)
    return MixedCheckpoint(context.finished(stage) / MODEL, None)

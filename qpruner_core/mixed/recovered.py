"""Where the model of a run lies before and after recovery, whatever recovery trained."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from qpruner_core.events import StageName
from qpruner_core.stage import StageContext

MODEL = "model"
ADAPTER = "adapter"


class MixedCheckpoint(NamedTuple):
    """Directories of a mixed-precision model, and of the adapter that it is complete with, if there is one."""

    model: Path
    adapter: Path | None


def quantized_model(context: StageContext) -> MixedCheckpoint:
    """What the quantize stage wrote."""
    return _of(context, "quantize")


def recovered_model(context: StageContext) -> MixedCheckpoint:
    """What the finetune stage made of it: what is handed out."""
    return _of(context, "finetune")


def _of(context: StageContext, stage: StageName) -> MixedCheckpoint:
    """An adapter ships beside the model that it was trained on, which is then still that of the quantize stage."""
    adapter = context.finished(stage) / ADAPTER
    if adapter.is_dir():
        return MixedCheckpoint(context.finished("quantize") / MODEL, adapter)
    return MixedCheckpoint(context.finished(stage) / MODEL, None)

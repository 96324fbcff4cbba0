"""The targets. A new one is one file or folder, and its line here."""

from __future__ import annotations

from qpruner_core.allocate.config import AllocateConfig
from qpruner_core.finetune.config import FinetuneConfig
from qpruner_core.quantize.config import QuantizeConfig
from qpruner_core.targets.base import Target
from qpruner_core.targets.bitsandbytes import BitsAndBytes
from qpruner_core.targets.compressed_tensors.target import CompressedTensors
from qpruner_core.targets.config import DEFAULT_RUNS_ON, RunsOn, TargetName
from qpruner_core.targets.gguf.target import Gguf

TARGETS: dict[TargetName, type[Target]] = {
    Gguf.name: Gguf,
    CompressedTensors.name: CompressedTensors,
    BitsAndBytes.name: BitsAndBytes,
}


def bind_target(
    name: TargetName,
    quantize: QuantizeConfig,
    allocate: AllocateConfig,
    finetune: FinetuneConfig = FinetuneConfig(),
    runs_on: RunsOn = DEFAULT_RUNS_ON,
) -> Target:
    """The target ``name`` with the settings of a run."""
    return TARGETS[name](quantize, allocate, finetune, runs_on)

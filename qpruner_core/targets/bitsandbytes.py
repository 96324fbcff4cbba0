"""bitsandbytes: transformers with PEFT, by the package's own loader. The paper's methods run here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from qpruner_core.finetune.config import Recovery
from qpruner_core.precisions import Precision, precisions
from qpruner_core.quantize.config import QuantizeConfig
from qpruner_core.targets.base import Target
from qpruner_core.targets.config import PRECISIONS, TargetName


class BitsAndBytes(Target):
    """NF4, INT8 and 16 bits in one model; by default with LoRA adapters on every linear module of the layers."""

    name: ClassVar[TargetName] = "bitsandbytes"
    default_options: ClassVar[tuple[str, ...]] = PRECISIONS[name]
    default_recovery: ClassVar[Recovery] = "adapter"

    def _precisions(self, quantize: QuantizeConfig) -> Mapping[str, Precision]:
        known = precisions(quantize)
        return {name: known[name] for name in self.default_options}

    def _embedding_options(self) -> tuple[str, ...]:
        return ("int8", "bf16")

"""GGUF: llama.cpp, Ollama and whatever else runs ggml."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from qpruner_core.finetune.config import Recovery
from qpruner_core.precisions import Precision
from qpruner_core.precisions.ggml import GGML
from qpruner_core.quantize.config import QuantizeConfig
from qpruner_core.targets.base import Shape, Target
from qpruner_core.targets.names import TargetName

_FALLBACKS = {
    **dict.fromkeys(("iq2_xs", "iq2_s", "q2_k", "iq3_xxs", "q3_k", "iq3_s", "iq4_xs", "q4_k"), "iq4_nl"),
    "q5_k": "q5_0",
    "q6_k": "q5_1",
}
"""Formats of blocks of 32 that take the place of those of 256 where a row is no multiple of that; of about their size,
but that none has fewer than 4.5 bits."""


class Gguf(Target):
    """Every format of ggml that llama.cpp computes with; embeddings and head in any of them; by itself no adapters."""

    name: ClassVar[TargetName] = "gguf"
    default_recovery: ClassVar[Recovery] = "scales"
    default_options: ClassVar[tuple[str, ...]] = ("q2_k", "q3_k", "iq4_xs", "q4_k", "q5_k", "q6_k", "q8_0", "bf16")

    def stored_as(self, name: str, shape: Shape) -> str:
        """``name``, or a format of shorter blocks, or 16 bits where rows are no multiple of 32."""
        for candidate in (name, _FALLBACKS.get(name, name)):
            if self.precisions[candidate].accepts(*shape):
                return candidate
        return "bf16"

    def _precisions(self, quantize: QuantizeConfig) -> Mapping[str, Precision]:
        return GGML

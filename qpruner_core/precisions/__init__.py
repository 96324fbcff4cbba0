"""The precisions of weights.

A new one is one file, its line here, and its line in :data:`qpruner_core.precision_names.PRECISIONS`; those of ggml and
compressed-tensors are objects in files of their folders.
"""

from __future__ import annotations

import logging
from typing import Protocol

from qpruner_core.precisions.base import Grid, Precision, Tensors
from qpruner_core.precisions.bf16 import Bf16
from qpruner_core.precisions.compressed_tensors import QUANTIZED
from qpruner_core.precisions.ggml import GGML
from qpruner_core.precisions.int8 import Int8
from qpruner_core.precisions.llm_int8 import LlmInt8
from qpruner_core.precisions.nf4 import Nf4
from qpruner_core.quantize.config import Int8Kind

# It warns at every forward pass that INT8 works in 16-bit floats
logging.getLogger("bitsandbytes.autograd._functions").setLevel(logging.ERROR)

__all__ = ["Grid", "Precision", "PrecisionChoice", "Tensors", "precisions"]


class PrecisionChoice(Protocol):
    """Properties of the precisions in settings and checkpoints, in addition to their names."""

    @property
    def double_quant(self) -> bool:
        """Whether NF4's constants are in 8 bits."""

    @property
    def int8(self) -> Int8Kind:
        """The variant of ``int8``."""


def precisions(choice: PrecisionChoice) -> dict[str, Precision]:
    """Every precision by its name."""
    int8 = Int8() if choice.int8 == "weight_only" else LlmInt8()
    own = (Nf4(choice.double_quant), int8, Bf16())
    return dict(GGML) | dict(QUANTIZED) | {precision.name: precision for precision in own}

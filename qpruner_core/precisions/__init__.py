"""The precisions that weights can have. A new one is one file and one line here."""

from __future__ import annotations

import logging

from qpruner_core.precisions.base import Grid, Precision, Tensors
from qpruner_core.precisions.bf16 import Bf16
from qpruner_core.precisions.int8 import Int8
from qpruner_core.precisions.nf4 import Nf4

# Says at every forward that INT8 works in 16-bit floats
logging.getLogger("bitsandbytes.autograd._functions").setLevel(logging.ERROR)

__all__ = ["Grid", "Precision", "Tensors", "precisions"]


def precisions(double_quant: bool) -> dict[int, Precision]:
    """Every precision by its bits."""
    return {precision.bits: precision for precision in (Nf4(double_quant), Int8(), Bf16())}

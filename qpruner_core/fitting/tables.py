"""Rounding of embeddings and heads: tables with a row per token, by the head's inputs on calibration text."""

from __future__ import annotations

import torch

from qpruner_core.fitting.error_feedback import encode_with_feedback
from qpruner_core.forward.input_moments import InputMoments
from qpruner_core.precisions import Precision, Tensors

_FEEDBACK_BELOW = 8.0
"""Bits per weight from which rounding is to the nearest: a head then loses almost nothing, and its many rows take long.
"""
_AT_ONCE = 2**23
"""Weights of a table that are rounded together: in float32, a whole vocabulary is several times as large as the table.
"""


def encode_table(weight: torch.Tensor, precision: Precision, moments: InputMoments | None) -> Tensors:
    """Quantize the table ``weight`` (``[tokens, width]``, bfloat16) into the tensors that ``precision`` stores.

    Args:
        moments: moments of the inputs of the head that multiplies with the table, for :func:`encode_with_feedback`;
            ``None``: no head does, and each entry is rounded to its nearest level.
    """
    if moments is None or precision.lossless:
        return precision.encode(weight)
    if precision.bits_per_weight >= _FEEDBACK_BELOW:
        return precision.encode(weight, moments.importance.to(weight.device) if moments.any else None)
    parts = [
        encode_with_feedback([(rows, precision)], moments)[0]
        for rows in weight.split(max(1, _AT_ONCE // weight.shape[1]))
    ]
    return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}

"""Embeddings and heads rounded: tables with a row per token, by the inputs that the head has on calibration text."""

from __future__ import annotations

import torch

from qpruner_core.fitting.error_feedback import encode_with_feedback
from qpruner_core.forward.input_moments import InputMoments
from qpruner_core.precisions import Precision, Tensors

_FEEDBACK_BELOW = 8.0
"""Bits per weight: at 8 and more a head loses next to nothing, and its many rows take long."""
_AT_ONCE = 2**23
"""Weights of a table that are rounded together: a vocabulary of float32 rows is several times the table."""


def encode_table(weight: torch.Tensor, precision: Precision, moments: InputMoments | None) -> Tensors:
    """Quantize the table ``weight`` (``[tokens, width]``, bfloat16) as ``precision`` stores it.

    Args:
        moments: of the inputs of the head that multiplies with the table, for :func:`encode_with_feedback`; ``None``:
            nothing does, so each entry goes to its nearest level.
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

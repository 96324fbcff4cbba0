"""Compensation for removed units by changes of the remaining parameters."""

from __future__ import annotations

from collections.abc import Callable

import torch

from qpruner_core.prune.bias_compensation import compensating_biases
from qpruner_core.prune.config import CompensationName
from qpruner_core.prune.refit import refitted_weights

COMPENSATIONS: dict[CompensationName, Callable[..., dict[str, torch.Tensor]]] = {
    "none": lambda *_, **__: {},
    "bias": compensating_biases,
    "refit": refitted_weights,
}
"""Each takes (model, family, shape, importance, calibration, on_batch) and returns parameters of the new model. With
``consume=True`` it may change weights of the old one instead, which can then only be cut."""

"""Time of rounding weights, measured for each precision: formats of ggml differ by a factor of two hundred."""

from __future__ import annotations

import torch

from qpruner_core.allocate.config import AllocateConfig
from qpruner_core.precisions import Precision
from qpruner_core.quantize.config import QuantizeConfig
from qpruner_core.speed.machine_speed import Seconds
from qpruner_core.speed.timing import on_one_thread, seconds_once
from qpruner_core.targets.registry import TARGETS, bind_target

_INPUTS = 256
_FEW, _MANY, _MANY_ON_GPU = 128, 512, 16384
"""Outputs of the rounded weights; the more, the smaller the share of each call's overhead."""
_SLOW = 0.03


def measure_rounding(device: torch.device) -> dict[str, Seconds]:
    """Seconds per weight of rounding to the nearest and packing, at every precision of every target, where many weights
    are rounded side by side: on a CPU, by :func:`~qpruner_core.compute.side_by_side.side_by_side`."""
    kinds: dict[str, Precision] = {}
    for target in TARGETS:
        kinds |= bind_target(target, QuantizeConfig(), AllocateConfig()).precisions
    rows = _MANY if device.type == "cpu" else _MANY_ON_GPU
    many = torch.randn(rows, _INPUTS, device=device).to(torch.bfloat16)
    if device.type != "cpu":
        return {name: _seconds_per_weight(kind, many) for name, kind in kinds.items()}
    with on_one_thread() as threads:
        return {name: _seconds_per_weight(kind, many) / threads for name, kind in kinds.items()}


def _seconds_per_weight(kind: Precision, many: torch.Tensor) -> Seconds:
    few = many[:_FEW]
    _seconds(kind, few)  # builds tables
    seconds = _seconds(kind, few)
    slow = many.device.type == "cpu" and seconds * many.numel() > _SLOW
    return min(seconds, _seconds(kind, few if slow else many))


def _seconds(kind: Precision, weight: torch.Tensor) -> Seconds:
    return seconds_once(lambda: kind.encode(weight), weight.device) / weight.numel()

"""Ranks of the adapters: as many bytes as uniform ones, spent where a rank takes away the most error."""

from __future__ import annotations

import heapq
from collections.abc import Mapping, Sequence

import torch

from qpruner_core.fitting.initialisations.base import truncated_svd
from qpruner_core.precisions import Precision

_MOST = 4
"""Times the uniform rank: what one module may have at most."""


def allocate_ranks(
    gains: Mapping[str, Sequence[float]], shapes: Mapping[str, tuple[int, int]], rank: int
) -> dict[str, int]:
    """Ranks by module name, each at least 1, whose adapters together have at most the bytes of all at ``rank``.

    Args:
        gains: what each further rank of a module takes away of its relative squared error, falling; the first ones
            count for the rank that every module has.
        shapes: (outputs, inputs) of the modules.

    The next rank goes where it takes away the most per byte among those that still fit. As gains fall, no choice takes
    away more but for less than the last rank that did not fit (the bound of the continuous knapsack).
    """
    cost = {name: sum(shape) for name, shape in shapes.items()}
    left = (rank - 1) * sum(cost.values())
    ranks = dict.fromkeys(shapes, 1)
    waiting = [(-gains[name][1] / cost[name], name) for name in shapes if len(gains[name]) > 1]
    heapq.heapify(waiting)
    while waiting:
        _, name = heapq.heappop(waiting)
        if cost[name] > left:
            continue  # smaller modules may still fit
        left -= cost[name]
        ranks[name] += 1
        if ranks[name] < len(gains[name]):
            heapq.heappush(waiting, (-gains[name][ranks[name]] / cost[name], name))
    return ranks


def rank_gains(
    weight: torch.Tensor, precision: Precision, input_scale: torch.Tensor, *, rank: int, seed: int
) -> list[float]:
    """What each rank takes away of the relative squared error of a module's output when ``weight`` is quantized.

    Squared singular values of the error, each column scaled as its input is, over the squared norm of the scaled
    weight (QERA, arXiv 2410.06040): exact for uncorrelated inputs. As many as ``4 · rank``; zeros beyond the shape's.
    """
    scale = input_scale.to(weight.device)
    error = weight.float() - precision.decode(precision.encode(weight)).float()
    energy = (weight.float() * scale).square().sum().item()
    _, values, _ = truncated_svd(error * scale, _MOST * rank, seed)
    gains = (values.square() / max(energy, torch.finfo(torch.float32).tiny)).tolist()
    return gains + [0.0] * (_MOST * rank - len(gains))

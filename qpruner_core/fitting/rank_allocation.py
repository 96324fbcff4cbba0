"""Ranks of the adapters: the bytes of uniform ranks, spent where a rank reduces the error most."""

from __future__ import annotations

import heapq
from collections.abc import Mapping, Sequence

import torch

from qpruner_core.fitting.initialisations.base import truncated_svd
from qpruner_core.precisions import Precision

_MOST = 4
"""Largest rank of one module, as a multiple of the uniform rank."""


def allocate_ranks(
    gains: Mapping[str, Sequence[float]], shapes: Mapping[str, tuple[int, int]], rank: int
) -> dict[str, int]:
    """Ranks by module name, each at least 1, whose adapters together have at most the bytes of all at ``rank``.

    Args:
        gains: reduction of a module's relative squared error by each further rank, in falling order; the first ones
            belong to the rank that every module has.
        shapes: (outputs, inputs) of the modules.

    The next rank goes where it reduces the error most per byte, among the ranks that still fit. As gains fall, no other
    choice reduces more, except by less than the last rank that did not fit (the bound of the continuous knapsack).
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
    """Reduction of the relative squared output error of a module by each rank when ``weight`` is quantized.

    Squared singular values of the error, each column scaled by its input scale, over the squared norm of the scaled
    weight (QERA, arXiv 2410.06040): exact for uncorrelated inputs. Has ``4 · rank`` entries, padded with zeros.
    """
    scale = input_scale.to(weight.device)
    error = weight.float() - precision.decode(precision.encode(weight)).float()
    energy = (weight.float() * scale).square().sum().item()
    _, values, _ = truncated_svd(error * scale, _MOST * rank, seed)
    gains = (values.square() / max(energy, torch.finfo(torch.float32).tiny)).tolist()
    return gains + [0.0] * (_MOST * rank - len(gains))

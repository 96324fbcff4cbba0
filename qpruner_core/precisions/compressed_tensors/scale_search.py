"""Scales of whole numbers: the step of each group with the least error, weighted by the importance of its inputs."""

from __future__ import annotations

import torch

from qpruner_core.precisions.base import TINY

_RATIOS = 20
_SMALLEST_RATIO = {2: 0.35, 3: 0.45, 4: 0.55, 5: 0.65, 6: 0.75, 7: 0.8, 8: 0.85}
"""Bits -> the smallest share of the step that clips no weight."""
_REFINEMENTS = 2
_AT_ONCE = 2**17
_AT_ONCE_ON_GPU = 2**25
"""Weights that are tried together: a size that fits a processor's cache and keeps a GPU busy."""


def best_scales(weight: torch.Tensor, bits: int, group: int, importance: torch.Tensor | None) -> torch.Tensor:
    """bfloat16 scales ``[out, in / group]`` for levels from ``-2**(bits - 1)`` to ``2**(bits - 1) - 1``.

    Of :data:`_RATIOS` shares of the group's absolute maximum the one with the smallest ``Σ h·(w − s·q)²`` is chosen,
    where ``q`` is the nearest level and ``h`` the ``importance [in]`` (mean squares of inputs; ``None``: all equal).
    Least squares over its levels, ``s = Σ h·w·q / Σ h·q²``, then improve it. Errors are those of the scale as stored.
    """
    columns = weight.shape[1]
    levels = -float(2 ** (bits - 1)), float(2 ** (bits - 1) - 1)
    importances = _importances(weight, importance).view(columns // group, group)
    ratios = torch.linspace(1.0, _SMALLEST_RATIO[bits], _RATIOS).tolist()
    at_once = max(1, (_AT_ONCE_ON_GPU if weight.is_cuda else _AT_ONCE) // columns)
    return torch.cat(
        [
            _search(part.float().view(len(part), columns // group, group), importances, levels, ratios)
            for part in weight.split(at_once)
        ]
    )


def _importances(weight: torch.Tensor, importance: torch.Tensor | None) -> torch.Tensor:
    """Weight of each input, float32 ``[in]``; always positive, so that a group without inputs has a scale as well."""
    if importance is None:
        return torch.ones(weight.shape[1], device=weight.device)
    wanted = importance.to(weight.device, torch.float32)
    return wanted / wanted.mean().clamp(min=TINY) + 1e-6


def _search(
    groups: torch.Tensor, importances: torch.Tensor, levels: tuple[float, float], ratios: list[float]
) -> torch.Tensor:
    """Scales bfloat16 ``[rows, groups]`` of the weights ``groups [rows, groups, group]``."""
    largest = groups.abs().amax(dim=2) / levels[1]
    best = stored(largest * ratios[0])
    least = _errors(groups, _nearest(groups, best, levels), best, importances)
    for ratio in ratios[1:]:
        best, least = _better(groups, stored(largest * ratio), best, least, importances, levels)
    for _ in range(_REFINEMENTS):
        numbers = _nearest(groups, best, levels)
        weighted = numbers * importances
        fitted = (weighted * groups).sum(dim=2) / (weighted * numbers).sum(dim=2).clamp(min=TINY)
        best, least = _better(groups, stored(fitted), best, least, importances, levels)
    return best.to(torch.bfloat16)


def _better(
    groups: torch.Tensor,
    scales: torch.Tensor,
    best: torch.Tensor,
    least: torch.Tensor,
    importances: torch.Tensor,
    levels: tuple[float, float],
) -> tuple[torch.Tensor, torch.Tensor]:
    errors = _errors(groups, _nearest(groups, scales, levels), scales, importances)
    better = errors < least
    return torch.where(better, scales, best), torch.where(better, errors, least)


def _nearest(groups: torch.Tensor, scales: torch.Tensor, levels: tuple[float, float]) -> torch.Tensor:
    return (groups / scales.unsqueeze(2)).round_().clamp_(*levels)


def _errors(
    groups: torch.Tensor, numbers: torch.Tensor, scales: torch.Tensor, importances: torch.Tensor
) -> torch.Tensor:
    return torch.addcmul(groups, numbers, scales.unsqueeze(2), value=-1.0).square_().mul_(importances).sum(dim=2)


def stored(scales: torch.Tensor) -> torch.Tensor:
    """``scales`` rounded to bfloat16, in float32; 1 if that is zero, because engines divide by them."""
    rounded = scales.to(torch.bfloat16).float()
    return torch.where(rounded.abs() < TINY, torch.ones_like(rounded), rounded)

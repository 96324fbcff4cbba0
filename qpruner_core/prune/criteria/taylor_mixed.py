"""Mixed-order Taylor importance (LLM-Pruner, arXiv 2305.11627, equation 4): ``|w·g − w²F/2|``, element-wise.

g: the gradient of the mean loss of all sequences. F: the mean over sequences of the squared gradient of each, the
empirical Fisher information. The absolute value is of the whole, so both must be known for every weight: two sums as
large as the weights. To bound memory, only as many parameters as fit an allowance are scored at a time, and the passes
over the calibration text are repeated.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from transformers import PreTrainedModel

from qpruner_core.forward.passes import OnBatch
from qpruner_core.models.families import Cut, Family
from qpruner_core.prune.gradients import (
    CutSums,
    OnGradient,
    add_entries,
    calibration_loss,
    cuts_by_parameter,
    gradients_of,
    units_of,
    wide,
)
from qpruner_core.prune.importance import LayerImportance, finite

_LEAST_ALLOWANCE = 256 * 2**20


@dataclass(frozen=True)
class _Scored:
    """A parameter, its cuts, and the sums of its layer."""

    cuts: list[Cut]
    sums: CutSums

    @property
    def tensor(self) -> torch.Tensor:
        return self.cuts[0].tensor

    @property
    def dtype(self) -> torch.dtype:
        return torch.promote_types(self.tensor.dtype, torch.float32)

    @property
    def accumulator_bytes(self) -> int:
        return 2 * self.tensor.numel() * self.dtype.itemsize


def taylor_mixed(
    model: PreTrainedModel,
    family: Family,
    calibration: torch.Tensor,
    on_batch: OnBatch,
    *,
    allowance: int | None = None,
) -> list[LayerImportance]:
    """See :class:`qpruner_core.prune.importance.Criterion`.

    ``allowance``: bytes for the sums; by default a tenth of the bytes of the model's weights, but at least 256 MiB. A
    parameter that needs more is scored alone.
    """
    if allowance is None:
        weights = sum(tensor.numel() * tensor.element_size() for tensor in model.parameters())
        allowance = max(weights // 10, _LEAST_ALLOWANCE)
    cuts = [family.cuts(layer) for layer in family.decoder_layers(model)]
    sums: list[CutSums] = [{} for _ in cuts]
    scored = [
        _Scored(same, total) for layer, total in zip(cuts, sums, strict=True) for same in cuts_by_parameter(layer)
    ]
    parts = _packed(scored, allowance)
    for index, part in enumerate(parts):
        done = index * len(calibration)
        _score(model, part, calibration, lambda n, _, done=done: on_batch(done + n, len(parts) * len(calibration)))  # type: ignore[misc]
    return finite(units_of(model, family, cuts, sums))


def _packed(scored: Sequence[_Scored], allowance: int) -> list[list[_Scored]]:
    """``scored`` in order, in parts whose accumulators fit ``allowance``."""
    parts: list[list[_Scored]] = []
    room = 0
    for parameter in scored:
        if not parts or parameter.accumulator_bytes > room:
            parts.append([])
            room = allowance
        parts[-1].append(parameter)
        room -= parameter.accumulator_bytes
    return parts


def _score(model: PreTrainedModel, part: Sequence[_Scored], calibration: torch.Tensor, on_batch: OnBatch) -> None:
    first = {each.tensor: torch.zeros_like(each.tensor, dtype=each.dtype, requires_grad=False) for each in part}
    second = {tensor: torch.zeros_like(total) for tensor, total in first.items()}

    def accumulate(tensor: torch.Tensor) -> OnGradient:
        def take(_weight: torch.Tensor, gradient: torch.Tensor) -> None:
            gradient = wide(gradient)
            first[tensor].add_(gradient)
            second[tensor].addcmul_(gradient, gradient)

        return take

    with gradients_of(model, {each.tensor: accumulate(each.tensor) for each in part}):
        for index, sequence in enumerate(calibration):
            calibration_loss(model, sequence).backward()
            on_batch(index + 1, len(calibration))
    for each in part:
        weight = each.tensor.detach()
        change = first.pop(each.tensor).mul_(weight)
        curvature = second.pop(each.tensor).mul_(weight).mul_(weight)
        change.add_(curvature, alpha=-0.5).div_(len(calibration)).abs_()
        add_entries(each.cuts, change, each.sums)

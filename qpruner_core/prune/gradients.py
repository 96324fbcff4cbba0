"""Gradients of the calibration loss, each reduced to a number a unit as soon as it exists, and then freed.

So memory stays near that of the model and the activations of one sequence.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from transformers import PreTrainedModel

from qpruner_core.errors import NotFiniteError
from qpruner_core.models.families import Cut, Family
from qpruner_core.prune.importance import LayerImportance, OnBatch, sum_units

Reduction = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
"""(weight, gradient) of one sequence to a number an entry of the weight, of the same shape."""


def reduce_gradients(
    model: PreTrainedModel, family: Family, calibration: torch.Tensor, reduction: Reduction, on_batch: OnBatch
) -> list[LayerImportance]:
    """``reduction`` summed over every unit's weights and averaged over the sequences of ``calibration``.

    Args:
        model: bfloat16 or float32; its gradients must be free to use.
        calibration: token ids ``[sequences, length]``, int64.

    Raises:
        NotFiniteError: the model's loss is NaN or infinite.
    """
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    head_dim = family.head_dim(model.config)
    widths = family.widths(model.config)
    importance: list[LayerImportance] = [{} for _ in widths]
    sums: list[dict[tuple[str, int], torch.Tensor]] = [{} for _ in widths]
    cuts = [family.cuts(layer) for layer in family.decoder_layers(model)]
    handles = [handle for layer, total in zip(cuts, sums, strict=True) for handle in _attach(layer, reduction, total)]
    try:
        for index, sequence in enumerate(calibration):
            calibration_loss(model, sequence).backward()
            on_batch(index + 1, len(calibration))
    finally:
        for handle in handles:
            handle.remove()
    for layer, total, width, scores in zip(cuts, sums, widths, importance, strict=True):
        for cut in layer:
            sum_units(cut, total[cut.parameter, cut.dim] / len(calibration), width, head_dim, scores)
    return importance


def calibration_loss(model: PreTrainedModel, sequence: torch.Tensor) -> torch.Tensor:
    """Mean next-token cross-entropy on ``sequence [length]``.

    Raises:
        NotFiniteError: it is NaN or infinite.
    """
    ids = sequence.unsqueeze(0).to(model.device)
    loss: torch.Tensor = model(input_ids=ids, labels=ids, use_cache=False).loss
    if not torch.isfinite(loss):
        raise NotFiniteError(
            "The model's loss on the calibration text is not a number.",
            field="model",
            remedy="Look for NaN or infinite weights in it.",
        )
    return loss


def _attach(
    cuts: list[Cut], reduction: Reduction, sums: dict[tuple[str, int], torch.Tensor]
) -> list[torch.utils.hooks.RemovableHandle]:
    by_parameter: dict[str, list[Cut]] = {}
    for cut in cuts:
        by_parameter.setdefault(cut.parameter, []).append(cut)
    handles = []
    for same in by_parameter.values():
        same[0].tensor.requires_grad_(True)
        handles.append(same[0].tensor.register_post_accumulate_grad_hook(_reducer(same, reduction, sums)))
    return handles


def _reducer(
    cuts: list[Cut], reduction: Reduction, sums: dict[tuple[str, int], torch.Tensor]
) -> Callable[[torch.Tensor], None]:
    def reduce(weight: torch.Tensor) -> None:
        assert weight.grad is not None
        reduced = reduction(weight.detach(), weight.grad)
        weight.grad = None
        for cut in cuts:
            others = [dim for dim in range(reduced.dim()) if dim != cut.dim]
            total = reduced.sum(dim=others, dtype=torch.float32).double() if others else reduced.double()
            key = cut.parameter, cut.dim
            sums[key] = sums[key] + total if key in sums else total

    return reduce

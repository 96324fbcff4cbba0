"""Gradients of the calibration loss, each reduced to one number per unit as soon as it exists, and then freed.

Memory therefore stays near that of the model and the activations of one sequence.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from transformers import PreTrainedModel

from qpruner_core.errors import NotFiniteError
from qpruner_core.forward.passes import OnBatch
from qpruner_core.models.families import Cut, Family
from qpruner_core.prune.backward_memory import next_token_loss, recomputed_layers
from qpruner_core.prune.importance import LayerImportance, finite, sum_units

Reduction = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
"""(weight, gradient) of one sequence -> one number per entry of the weight, of the same shape; may overwrite the
gradient."""

OnGradient = Callable[[torch.Tensor, torch.Tensor], None]
"""Called with a weight and the gradient of one sequence, which is freed afterwards."""

CutSums = dict[tuple[str, int], torch.Tensor]
"""(parameter, dimension) of a cut -> float64 sums over all other dimensions, one number per entry."""

_BLOCK = 2**22
"""Entries of a gradient that are reduced at a time: stacked experts are almost a whole layer in one parameter."""


def reduce_gradients(
    model: PreTrainedModel,
    family: Family,
    calibration: torch.Tensor,
    reduction: Reduction,
    on_batch: OnBatch,
    *,
    of_unit: Callable[[torch.Tensor], torch.Tensor] | None = None,
) -> list[LayerImportance]:
    """``reduction`` summed over every unit's weights and averaged over the sequences of ``calibration``.

    Args:
        model: bfloat16, float32 or float64; its gradients must be free to use.
        calibration: token ids ``[sequences, length]``, int64.
        of_unit: applied to the sums of each sequence before they are averaged.

    Raises:
        NotFiniteError: the model's loss or a gradient is NaN or infinite.
    """
    cuts = [family.cuts(layer) for layer in family.decoder_layers(model)]
    sums: list[CutSums] = [{} for _ in cuts]
    importance: list[LayerImportance] = [{} for _ in cuts]
    with gradients_of(model, _reducers(cuts, reduction, sums)):
        for index, sequence in enumerate(calibration):
            calibration_loss(model, sequence).backward()
            if of_unit is not None:
                _add(importance, units_of(model, family, cuts, sums), of_unit)
                for total in sums:
                    total.clear()
            on_batch(index + 1, len(calibration))
    if of_unit is None:
        importance = units_of(model, family, cuts, sums)
    return finite([{unit: total / len(calibration) for unit, total in layer.items()} for layer in importance])


def calibration_loss(model: PreTrainedModel, sequence: torch.Tensor) -> torch.Tensor:
    """Mean next-token cross-entropy on ``sequence [length]``.

    Raises:
        NotFiniteError: the loss is NaN or infinite.
    """
    loss = next_token_loss(model, sequence.unsqueeze(0).to(model.device))
    if not torch.isfinite(loss):
        raise NotFiniteError(
            "The model's loss on the calibration text is not finite.",
            field="model",
            remedy="Check its weights for NaN or infinity.",
        )
    return loss


@contextmanager
def gradients_of(model: PreTrainedModel, wanted: Mapping[torch.Tensor, OnGradient]) -> Iterator[None]:
    """Context manager in which only the ``wanted`` parameters get gradients; each is handed over as soon as it exists,
    then freed.

    Afterwards parameters require gradients as before, and have none.
    """
    before = {parameter: parameter.requires_grad for parameter in model.parameters()}
    for parameter in before:
        parameter.requires_grad_(parameter in wanted)
    handles = [weight.register_post_accumulate_grad_hook(_freeing(take)) for weight, take in wanted.items()]
    try:
        with recomputed_layers(model):
            yield
    finally:
        for handle in handles:
            handle.remove()
        for parameter, required in before.items():
            parameter.requires_grad_(required)
            parameter.grad = None


def _freeing(take: OnGradient) -> Callable[[torch.Tensor], None]:
    def hook(weight: torch.Tensor) -> None:
        assert weight.grad is not None
        gradient, weight.grad = weight.grad, None
        take(weight.detach(), gradient)

    return hook


def wide(tensor: torch.Tensor) -> torch.Tensor:
    """``tensor`` in at least float32."""
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))


def cuts_by_parameter(cuts: Sequence[Cut]) -> list[list[Cut]]:
    """The cuts of a layer, those of the same parameter together."""
    by_parameter: dict[str, list[Cut]] = {}
    for cut in cuts:
        by_parameter.setdefault(cut.parameter, []).append(cut)
    return list(by_parameter.values())


def add_entries(cuts: Sequence[Cut], entries: torch.Tensor, sums: CutSums) -> None:
    """Add ``entries``, one number per entry of the parameter of ``cuts``, to the sums of each cut."""
    dtype = torch.promote_types(entries.dtype, torch.float32)
    for cut in cuts:
        others = [dim for dim in range(entries.dim()) if dim != cut.dim]
        total = entries.sum(dim=others, dtype=dtype).double() if others else entries.double()
        key = cut.parameter, cut.dim
        sums[key] = sums[key] + total if key in sums else total


def units_of(
    model: PreTrainedModel, family: Family, cuts: Sequence[Sequence[Cut]], sums: Sequence[CutSums]
) -> list[LayerImportance]:
    """The sums of every layer's ``cuts``, added up over the entries of each unit."""
    head_dim = family.head_dim(model.config)
    units: list[LayerImportance] = [{} for _ in cuts]
    for layer, total, width, into in zip(cuts, sums, family.widths(model.config), units, strict=True):
        for cut in layer:
            sum_units(cut, total[cut.parameter, cut.dim], width, head_dim, into)
    return units


def _reducers(
    cuts: Sequence[Sequence[Cut]], reduction: Reduction, sums: Sequence[CutSums]
) -> dict[torch.Tensor, OnGradient]:
    def reducer(same: list[Cut], total: CutSums) -> OnGradient:
        return lambda weight, gradient: _add_by_rows(same, reduction, weight, gradient, total)

    return {
        same[0].tensor: reducer(same, total)
        for layer, total in zip(cuts, sums, strict=True)
        for same in cuts_by_parameter(layer)
    }


def _add_by_rows(
    cuts: Sequence[Cut], reduction: Reduction, weight: torch.Tensor, gradient: torch.Tensor, sums: CutSums
) -> None:
    """Add the reduction of one gradient to ``sums``, some rows at a time, so that temporaries stay small."""
    rows = max(1, _BLOCK // max(1, weight[0].numel()))
    blocks: list[CutSums] = []
    for some_weight, some_gradient in zip(weight.split(rows), gradient.split(rows), strict=True):
        blocks.append({})
        add_entries(cuts, reduction(some_weight, some_gradient), blocks[-1])
    for key in blocks[0]:
        parts = [block[key] for block in blocks]
        total = torch.cat(parts) if key[1] == 0 else torch.stack(parts).sum(dim=0)
        sums[key] = sums[key] + total if key in sums else total


def _add(
    into: list[LayerImportance], units: list[LayerImportance], of_unit: Callable[[torch.Tensor], torch.Tensor]
) -> None:
    for total, layer in zip(into, units, strict=True):
        for unit, scores in layer.items():
            total[unit] = total[unit] + of_unit(scores) if unit in total else of_unit(scores)

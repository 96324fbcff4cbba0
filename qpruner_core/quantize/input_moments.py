"""Second moments of the inputs of linear modules, for as many modules at a time as memory allows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from transformers import PreTrainedModel

from qpruner_core.models.families import linear_shape
from qpruner_core.prune.importance import OnBatch
from qpruner_core.prune.refit import second_moments

_LEAST_ALLOWANCE = 256 * 2**20
_SHARE_OF_WEIGHTS = 10


def input_moments(
    model: PreTrainedModel, names: Sequence[str], calibration: torch.Tensor, on_batch: OnBatch
) -> Iterator[tuple[str, torch.Tensor]]:
    """The modules ``names`` in their order, each with ``Σ x·xᵀ`` of its inputs (float32 ``[in, in]``, not kept).

    Those of a few modules are held at a time, a tenth of the weights' bytes or 256 MiB, and ``calibration [sequences,
    length]`` is read once for each such part. ``on_batch`` counts over all parts.

    Raises:
        NotFiniteError: an activation is NaN or infinite.
    """
    weights_bytes = sum(tensor.numel() * tensor.element_size() for tensor in model.parameters())
    parts = _parts(model, names, max(weights_bytes // _SHARE_OF_WEIGHTS, _LEAST_ALLOWANCE))
    for number, part in enumerate(parts):

        def in_part(done: int, total: int, number: int = number) -> None:
            on_batch(number * total + done, len(parts) * total)

        moments = second_moments(model, [model.get_submodule(name) for name in part], calibration, in_part)
        for name in part:
            yield name, moments.pop(model.get_submodule(name))


def _parts(model: PreTrainedModel, names: Sequence[str], allowance: int) -> list[list[str]]:
    parts: list[list[str]] = []
    room = 0
    for name in names:
        size = 4 * linear_shape(model.get_submodule(name))[1] ** 2
        if not parts or size > room:
            parts.append([])
            room = allowance
        parts[-1].append(name)
        room -= size
    return parts

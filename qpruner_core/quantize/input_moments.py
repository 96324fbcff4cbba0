"""Second moments of the inputs of linear modules, for as many modules at a time as memory allows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property

import torch
from torch import nn
from transformers import PreTrainedModel

from qpruner_core.models.families import Family, linear_shape
from qpruner_core.prune.activations import Resuming
from qpruner_core.prune.importance import OnBatch
from qpruner_core.prune.refit import second_moments

_LEAST_ALLOWANCE = 256 * 2**20
_SHARE_OF_WEIGHTS = 10
_DAMPING = 0.01
"""What is added to the diagonal of the moments, as a share of its mean; as GPTQ has it."""


class InputMoments:
    """``sums``: ``Σ x·xᵀ`` over ``tokens`` inputs ``x``, ``[in, in]``, float32 or wider.

    What follows from them is worked out once for all modules that have these inputs, at every precision.
    """

    def __init__(self, sums: torch.Tensor, tokens: int) -> None:
        self.sums = sums
        self._tokens = tokens

    @cached_property
    def any(self) -> bool:
        """Whether there was any input but zero."""
        return bool(self.sums.any())

    @cached_property
    def scale(self) -> torch.Tensor:
        """Root mean square of each input, float32 ``[in]``."""
        return (self.sums.diagonal() / self._tokens).sqrt().float()

    @cached_property
    def order(self) -> torch.Tensor:
        """Numbers of the inputs, int64 ``[in]``, the largest first."""
        return self.sums.diagonal().argsort(descending=True)

    @cached_property
    def root(self) -> torch.Tensor:
        """The lower Cholesky factor of the damped moments, float32 ``[in, in]``."""
        lower: torch.Tensor = torch.linalg.cholesky(self._damped())
        return lower.float()

    @cached_property
    def inverse_factor(self) -> torch.Tensor:
        """The upper Cholesky factor of the inverse of the damped moments, in :attr:`order`, float32 ``[in, in]``."""
        lower = torch.linalg.cholesky(self._damped()[self.order][:, self.order])
        upper: torch.Tensor = torch.linalg.cholesky(torch.cholesky_inverse(lower), upper=True)
        return upper.float()

    def _damped(self) -> torch.Tensor:
        damped = self.sums.clone()
        damped.diagonal().add_(_DAMPING * damped.diagonal().mean())
        return damped


def input_moments(
    model: PreTrainedModel, family: Family, names: Sequence[str], calibration: torch.Tensor, on_batch: OnBatch
) -> Iterator[tuple[str, InputMoments]]:
    """The linear modules ``names`` in the order of their layers, each with the moments of its inputs (not kept);
    modules that follow each other and have the same inputs get the same.

    Those of a few modules are held at a time, a tenth of the weights' bytes or 256 MiB. Each layer runs once on
    ``calibration [sequences, length]``, or once for each of these parts that it has modules in: a hidden state a token
    is kept. ``on_batch`` counts over all parts.

    Raises:
        NotFiniteError: an activation is NaN or infinite.
    """
    layers = _layers_of_linears(model, family)
    weights_bytes = sum(tensor.numel() * tensor.element_size() for tensor in model.parameters())
    allowance = max(weights_bytes // _SHARE_OF_WEIGHTS, _LEAST_ALLOWANCE)
    parts = _parts(model, sorted(names, key=lambda name: layers[model.get_submodule(name)]), allowance)
    resuming = Resuming(model, family)
    for number, part in enumerate(parts):

        def in_part(done: int, total: int, number: int = number) -> None:
            on_batch(number * total + done, len(parts) * total)

        following = parts[number + 1] if number + 1 < len(parts) else None
        resuming.advance(None if following is None else layers[model.get_submodule(following[0])])
        modules = [model.get_submodule(name) for name in part]
        sums = second_moments(model, modules, calibration, in_part, resuming=resuming)
        moments: InputMoments | None = None
        for name, module in zip(part, modules, strict=True):
            of_module = sums.pop(module)
            if moments is None or moments.sums is not of_module:
                moments = InputMoments(of_module, calibration.numel())
            yield name, moments


def _layers_of_linears(model: PreTrainedModel, family: Family) -> dict[nn.Module, int]:
    layers = family.decoder_layers(model)
    return {linear: index for index, layer in enumerate(layers) for linear in family.linears_of(layer)}


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

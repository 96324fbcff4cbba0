"""Second moments of the inputs of linear modules, for as many modules at a time as memory allows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property
from itertools import groupby

import torch
from torch import nn
from transformers import PreTrainedModel

from qpruner_core.damping import DAMPING
from qpruner_core.forward.passes import OnBatch, Resuming
from qpruner_core.forward.second_moments import holds_head, second_moments
from qpruner_core.models.families import Family, linear_shape

_LEAST_ALLOWANCE = 256 * 2**20
_SHARE_OF_WEIGHTS = 10
_SOLVED_AT_ONCE = 128


class InputMoments:
    """Second moments of an input.

    ``sums``: ``Σ x·xᵀ`` over ``tokens`` inputs ``x``, ``[in, in]``, float32 or wider. ``damping``: share of the mean of
    their diagonal that is added to the diagonal before inversion.

    Derived values are computed once for all modules with these inputs, at every precision.
    """

    def __init__(self, sums: torch.Tensor, tokens: int, damping: float = DAMPING) -> None:
        self.sums = sums
        self.tokens = tokens
        self._damping = damping

    @cached_property
    def diagonal(self) -> torch.Tensor:
        """``Σ x²`` of each input, ``[in]``, as wide as the sums."""
        return self.sums.diagonal()

    @cached_property
    def any(self) -> bool:
        """Whether any input was not zero."""
        return bool(self.diagonal.any())

    @cached_property
    def scale(self) -> torch.Tensor:
        """Root mean square of each input, float32 ``[in]``."""
        return (self.diagonal / self.tokens).sqrt().float()

    @cached_property
    def importance(self) -> torch.Tensor:
        """Mean square of each input, float32 ``[in]``: the cost of an error in its weights."""
        return (self.diagonal / self.tokens).float()

    @cached_property
    def order(self) -> torch.Tensor:
        """Numbers of the inputs, int64 ``[in]``, the largest first."""
        return self.diagonal.argsort(descending=True)

    @cached_property
    def root(self) -> torch.Tensor:
        """Upper triangular ``U`` with ``U·Uᵀ`` equal to the damped moments in :attr:`order`, float32 ``[in, in]``."""
        damped = self.sums.index_select(0, self.order).index_select(1, self.order)
        damped.diagonal().add_(self._damping * damped.diagonal().mean())
        # With the inputs reversed, the lower factor is this one reversed
        reverse: torch.Tensor = torch.linalg.cholesky(damped.flip(0, 1))
        return reverse.flip(0, 1).float()

    @cached_property
    def inverse_root(self) -> torch.Tensor:
        """Inverse of :attr:`root`, upper triangular: ``Rᵀ·R`` is the inverse of the moments; float32 ``[in, in]``."""
        return _inverse_of_upper(self.root)

    def prepare(self) -> None:
        """Work out :attr:`order` and :attr:`inverse_root`, before several threads read them."""
        _ = self.order, self.inverse_root


def _inverse_of_upper(matrix: torch.Tensor) -> torch.Tensor:
    """Inverse of an upper triangular matrix, by halves: solving for the identity takes several times as long."""
    count = len(matrix)
    if count <= _SOLVED_AT_ONCE:
        solved: torch.Tensor = torch.linalg.solve_triangular(matrix, torch.eye(count, device=matrix.device), upper=True)
        return solved
    half = count // 2
    inverse = torch.zeros_like(matrix)
    inverse[:half, :half] = _inverse_of_upper(matrix[:half, :half])
    inverse[half:, half:] = _inverse_of_upper(matrix[half:, half:])
    inverse[:half, half:] = -(inverse[:half, :half] @ matrix[:half, half:]) @ inverse[half:, half:]
    return inverse


def input_moments(
    model: PreTrainedModel,
    family: Family,
    names: Sequence[str],
    calibration: torch.Tensor,
    on_batch: OnBatch,
    *,
    damping: float = DAMPING,
) -> Iterator[tuple[list[str], InputMoments]]:
    """The linear modules ``names`` in the order of their layers, with the moments of their inputs (not kept).

    Consecutive modules with the same inputs come together. ``names`` may include the module with the head's weights: it
    comes last. Moments of a few modules are held at a time: a tenth of the weights' bytes or 256 MiB. Each layer runs
    once on ``calibration [sequences, length]``, or once for each of these parts that has modules in it: one hidden
    state per token is kept. ``on_batch`` counts over all parts.

    Raises:
        NotFiniteError: an activation is NaN or infinite.
    """
    layers = _layers_of_linears(model, family)
    weights_bytes = sum(tensor.numel() * tensor.element_size() for tensor in model.parameters())
    allowance = max(weights_bytes // _SHARE_OF_WEIGHTS, _LEAST_ALLOWANCE)
    heads = [name for name in names if holds_head(model, model.get_submodule(name))]
    linears = [name for name in names if name not in heads]
    parts = _parts(model, sorted(linears, key=lambda name: layers[model.get_submodule(name)]), allowance)
    if heads:
        parts = [*parts[:-1], [*(parts[-1] if parts else []), *heads]]
    resuming = Resuming(model, family)
    for number, part in enumerate(parts):

        def in_part(done: int, total: int, number: int = number) -> None:
            on_batch(number * total + done, len(parts) * total)

        following = parts[number + 1] if number + 1 < len(parts) else None
        resuming.advance(None if following is None else layers[model.get_submodule(following[0])])
        modules = [model.get_submodule(name) for name in part]
        sums = second_moments(model, modules, calibration, in_part, resuming=resuming)
        by_name = {name: sums.pop(module) for name, module in zip(part, modules, strict=True)}
        for _, group in groupby(part, key=lambda name: id(by_name[name])):
            alike = list(group)
            shared, *_ = [by_name.pop(name) for name in alike]
            yield alike, InputMoments(shared, calibration.numel(), damping)


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

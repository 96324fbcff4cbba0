"""Effect of every precision on the predictions, to second order, from forward and backward passes alone.

Quantizing a group of modules adds Δy to their outputs y. To first order the logits z of token t then change by ``Δz = J
Δy`` with ``J = ∂z/∂y``. The KL divergence from the old to the new predictions p is to second order ``½ Δzᵀ F Δz``,
where ``F = diag(p) − p pᵀ`` is the Fisher information of the logits (Kunstner et al., arXiv 1905.12558, section 2),
which is also ``E[g gᵀ]`` over labels drawn from p, where ``g = ∂(−log p(label))/∂z``. Hence

    KL ≈ ½ E[(gᵀ J Δy)²] = ½ E[(Σ ∂L/∂y · Δy)²]

The inner sum, over all outputs of the group, is one dot product with the gradient that backpropagation computes for y
anyway, for any number of precisions. Labels of different tokens are drawn independently and each ``E[g] = 0``, so with
the losses of all tokens added into one L, the expected square of the sum is the sum of all divergences.

The square of that one number per sequence is unbiased but noisy: dozens of samples are needed. This module sums the
square per changed token instead, as if changes at different tokens added up at random. That neglects their joint effect
and may be lower by half, but orders SmolLM2's layers better with few samples: Spearman's correlation with the measured
divergence, 12 samples in all, is 0.98 at 4 bits and 0.84 at 8 bits, against 0.87 and 0.70.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol, cast

import torch
from torch import nn
from torch.nn.functional import embedding, linear
from transformers import PreTrainedModel

from qpruner_core.errors import NotFiniteError
from qpruner_core.fitting.sampled_bank import Sample
from qpruner_core.mixed.groups import PrecisionGroup
from qpruner_core.models.families import linear_weight
from qpruner_core.precision_names import UNQUANTIZED, size_order
from qpruner_core.precisions import Precision

PIECE = 256
"""Tokens whose effects are in memory at once."""
_ROWS = 32
"""Tokens whose probabilities are in memory at once."""
_OUTPUTS = 16384
"""Outputs of a module whose weight change is in memory at once; a head is processed in parts."""

_Option = tuple[int, str]
"""A group's index and one of its options."""


class RoundedGroups(Protocol):
    """Interface to the weights of ``groups`` at each of their precisions: all rows, or a sample."""

    @property
    def groups(self) -> Sequence[PrecisionGroup]: ...
    def values(self, index: int, option: str) -> list[torch.Tensor]:
        """Weights ``[rows, in]`` of the modules of group ``index``, in order."""

    def kind(self, index: int, number: int, option: str) -> Precision:
        """The precision of module ``number`` of group ``index``."""

    def sample(self, index: int, number: int) -> Sample | None:
        """Output numbers of the rows of module ``number`` of group ``index``; ``None``: all, in order."""


def fisher_sensitivity(
    model: PreTrainedModel,
    bank: RoundedGroups,
    calibration: torch.Tensor,
    *,
    samples: int,
    seed: int,
    on_piece: Callable[[int, int], None],
) -> list[dict[str, float]]:
    """KL divergence in nats per token that each precision would cause in each group alone; 0 at ``bf16``.

    Sequences of ``calibration`` (token ids ``[sequences, length]``) are split into pieces of at most :data:`PIECE`
    tokens. Each takes one forward pass and ``samples`` backward passes, each with new labels. Parameters get no
    gradients. Beside the model and the graph of one piece, memory holds Δy in bfloat16: ``2 · PIECE · outputs`` bytes
    for every module and option. ``bank``: the bank of ``model``, which must be unquantized everywhere. A sample of
    outputs stands for all, as if errors of outputs were independent.

    Raises:
        NotFiniteError: the model predicts NaN.
    """
    squares: dict[_Option, float] = {}
    for products in _products(model, bank, calibration, samples, seed, on_piece):
        for option, by_token in products.items():
            squares[option] = squares.get(option, 0.0) + by_token.square().sum().item()
    drawn = samples * calibration.numel()
    return [
        {
            option: 0.5 * squares.get((index, option), 0.0) / drawn
            for option in sorted({*group.options, UNQUANTIZED}, key=size_order)
        }
        for index, group in enumerate(bank.groups)
    ]


def _products(
    model: PreTrainedModel,
    bank: RoundedGroups,
    calibration: torch.Tensor,
    samples: int,
    seed: int,
    on_piece: Callable[[int, int], None],
) -> Iterator[dict[_Option, torch.Tensor]]:
    """For every piece and sample: ``∂L/∂y · Δy`` by token ``[length]``, summed over the modules of each group."""
    generator = torch.Generator().manual_seed(seed)
    effects = _Effects(model, bank)
    pieces = [piece for sequence in calibration for piece in sequence.split(PIECE)]
    for done, piece in enumerate(pieces):
        with effects.recorded():
            logits = model(input_ids=piece.unsqueeze(0).to(model.device), use_cache=False).logits
        predictions = _Predictions(logits.detach())
        for _ in range(samples):
            logits.backward(gradient=predictions.label_gradient(generator), retain_graph=True)
            yield effects.take()
        del logits, predictions
        effects.forget()
        on_piece(done + 1, len(pieces))


class _Predictions:
    """Probabilities of each token from ``logits [1, length, vocabulary]``, a few tokens at a time: in float32 and for
    all tokens they would be the largest tensors of this stage."""

    def __init__(self, logits: torch.Tensor) -> None:
        self._logits = logits

    def label_gradient(self, generator: torch.Generator) -> torch.Tensor:
        """``∂(Σ −log p(label))/∂logits`` for labels drawn from the predictions, in the shape and dtype of the logits.

        Raises:
            NotFiniteError: a prediction is NaN.
        """
        gradient = torch.empty_like(self._logits)
        logits = self._logits[0]
        drawn = torch.rand((len(logits), 1), generator=generator).to(logits.device)
        for rows, draws, found in zip(logits.split(_ROWS), drawn.split(_ROWS), gradient[0].split(_ROWS), strict=True):
            probabilities = torch.softmax(rows.float(), dim=-1)
            _require_finite(probabilities)
            cumulated = probabilities.cumsum(dim=-1)
            labels = torch.searchsorted(cumulated, draws * cumulated[:, -1:], right=True)
            labels.clamp_(max=cumulated.shape[1] - 1)
            found.copy_(probabilities.scatter_add_(1, labels, torch.full_like(labels, -1, dtype=probabilities.dtype)))
        return gradient


def _require_finite(probabilities: torch.Tensor) -> None:
    if not torch.isfinite(probabilities).all():
        raise NotFiniteError(
            "The model's predictions are not finite.",
            field="model",
            remedy="Check its weights for NaN or infinity, or prune less.",
        )


class _Effects:
    """Δy of every module of every group at every precision, and its product with the arriving gradients."""

    def __init__(self, model: PreTrainedModel, bank: RoundedGroups) -> None:
        self._model, self._bank = model, bank
        self._places: dict[nn.Module, tuple[int, int]] = {}  # module -> (its group, its number in the group)
        head = model.get_output_embeddings()
        for index, group in enumerate(bank.groups):
            for number, module in enumerate(map(model.get_submodule, group.modules)):
                self._places[module] = index, number
                if isinstance(module, nn.Embedding) and head is not None and head.weight is module.weight:
                    self._places[head] = index, number
        self._products: dict[_Option, torch.Tensor] = {}
        self._gradients: list[torch.utils.hooks.RemovableHandle] = []

    @contextmanager
    def recorded(self) -> Iterator[None]:
        """Context manager in which a forward pass records the effects; its graph begins at the embeddings' output."""
        parameters = {parameter: parameter.requires_grad for parameter in self._model.parameters()}
        embeddings = self._model.get_input_embeddings()
        hooks = [embeddings.register_forward_hook(lambda module, args, output: output.detach().requires_grad_())]
        hooks += [module.register_forward_hook(self._record) for module in self._places]
        for parameter in parameters:
            parameter.requires_grad_(False)
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()
            for parameter, required in parameters.items():
                parameter.requires_grad_(required)

    def take(self) -> dict[_Option, torch.Tensor]:
        """``∂L/∂y · Δy`` of the last backward pass, summed by token over the modules of a group: ``[length]``."""
        products, self._products = self._products, {}
        return products

    def forget(self) -> None:
        """Free the effects of the last forward pass."""
        for handle in self._gradients:
            handle.remove()
        self._gradients.clear()

    def _record(self, module: nn.Module, args: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
        index, number = self._places[module]
        # An embedding has all outputs, for the rows that are looked up
        sample = None if isinstance(module, nn.Embedding) else self._bank.sample(index, number)
        changes = {
            (index, option): _effect(
                module,
                self._bank.values(index, option)[number],
                self._bank.kind(index, number, option),
                args[0].detach(),
                self._bank.sample(index, number),
            )
            for option in self._bank.groups[index].options
            if option != UNQUANTIZED
        }
        weights = None if sample is None else sample.counts.sqrt().to(output.device)

        def multiply(gradient: torch.Tensor) -> None:
            if sample is not None and weights is not None:
                gradient = gradient.index_select(-1, sample.rows.to(gradient.device)) * weights.to(gradient.dtype)
            for option, change in changes.items():
                product = (gradient * change.to(gradient.dtype)).sum(dim=-1, dtype=torch.float32)[0]
                self._products[option] = self._products[option] + product if option in self._products else product

        self._gradients.append(output.register_hook(multiply))


@torch.no_grad()
def _effect(
    module: nn.Module, quantized: torch.Tensor, kind: Precision, inputs: torch.Tensor, sample: Sample | None
) -> torch.Tensor:
    """Change of the output of ``module`` if ``quantized [rows, in]`` replaced these rows of its weight, in bfloat16."""
    weight = linear_weight(module)
    rows = None if sample is None else sample.rows.to(weight.device)
    if isinstance(module, nn.Embedding):  # only the rows that are looked up: the table is the largest weight
        places = inputs if rows is None else torch.searchsorted(rows, inputs)
        change = embedding(places, quantized).to(weight.dtype) - embedding(inputs, weight)
        change = change * cast(float, getattr(module, "embed_scale", 1.0))
    else:
        weight = weight if rows is None else weight[rows]
        parts = zip(weight.split(_OUTPUTS), quantized.split(_OUTPUTS), strict=True)
        change = torch.cat([linear(inputs, new.to(weight.dtype) - old) for old, new in parts], dim=-1)
        rounded = kind.round_input(inputs)
        if rounded is not inputs:
            change += linear(rounded - inputs, quantized.to(weight.dtype))
    return change.to(torch.bfloat16)

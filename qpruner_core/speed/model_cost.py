"""Seconds of operations on a whole model, from its shape and a machine's speed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import NamedTuple, Self

from transformers import PretrainedConfig

from qpruner_core.fitting.sampled_bank import sampled
from qpruner_core.models.families import EVERY, Family, linear_shape
from qpruner_core.models.reshape import shapes_only
from qpruner_core.quantize.config import QuantizeConfig
from qpruner_core.speed.machine_speed import Kernel, MachineSpeed, Pass, fit_products

_MEASURED_TOKENS = 128
_MEASURED_ROOT = 0.6
"""Share of the products of second moments that is computed: the rest is mirrored."""
_MEASURED_FITS = ("nf4", "int8")
"""Conditions of the :class:`FitCost` measurement."""
_PASSES_OF_DECODING = 10
"""Passes over a weight's values that decode it, each as long as one over logits."""


class SharedInput(NamedTuple):
    """Linear modules of a layer that read the same ``width`` inputs: ``outputs`` of each, and the ``share`` of
    the tokens that reaches them."""

    width: int
    outputs: tuple[int, ...]
    share: float


@dataclass(frozen=True)
class ModelCost:
    """A model of ``layers`` layers, each with ``weights`` per token and ``held`` in all, on a machine.

    ``linears``: the modules of one layer, those that share inputs together. ``outside``: weights of
    embeddings and a separate head. ``stored``: bytes in 16 bits.
    """

    speed: MachineSpeed
    layers: int
    weights: float
    held: float
    linears: tuple[SharedInput, ...]
    hidden: int
    vocabulary: int
    outside: float
    stored: float

    @classmethod
    def of(cls, dense: PretrainedConfig, family: Family, speed: MachineSpeed) -> Self:
        """The model of ``dense``; of experts, those used per token."""
        model = shapes_only(dense, experts_apart=True)
        layers = family.decoder_layers(model)
        paths = family.linear_paths(layers[-1])
        shapes = {path: linear_shape(layers[-1].get_submodule(path)) for path in paths}
        experts = getattr(dense, "num_experts", None) or getattr(dense, "num_local_experts", None) or 1
        embeddings, head = model.get_input_embeddings(), model.get_output_embeddings()
        used = min((getattr(dense, "num_experts_per_tok", None) or 1) / experts, 1.0)
        linears = [
            SharedInput(width, tuple(shapes[path][0] for path in same), used if of_expert else 1.0)
            for (_, of_expert, width), same in groupby(paths, lambda path: (*_read_by(path, family), shapes[path][1]))
        ]
        held = sum(parameter.numel() for parameter in layers[-1].parameters())
        return cls(
            speed=speed,
            layers=len(layers),
            weights=held - sum(each.width * sum(each.outputs) * (1 - each.share) for each in linears),
            held=held,
            linears=tuple(linears),
            hidden=dense.hidden_size,
            vocabulary=dense.vocab_size,
            outside=sum({id(one.weight): one.weight.numel() for one in (embeddings, head) if one is not None}.values()),
            stored=2.0 * sum(parameter.numel() for parameter in model.parameters()),
        )

    def pruned(self, ratio: float) -> ModelCost:
        """The model with ``ratio`` of its layers' weights removed."""
        gone = 2.0 * self.layers * self.held * ratio
        left = 1 - ratio
        return replace(self, weights=self.weights * left, held=self.held * left, stored=self.stored - gone)

    # -- passes

    def passes(self, kind: Pass, sequences: float, tokens: float, *, weights: float = 1.0) -> float:
        """``kind`` through all layers, for ``sequences`` of ``tokens`` each; ``weights``: of another number of them."""
        cost = self.speed.layer(kind, self.weights * weights)
        longer = (self.weights + 2 * tokens * self.hidden) / (self.weights + 2 * _MEASURED_TOKENS * self.hidden)
        return sequences * self.layers * (cost.call + cost.per_token * tokens * longer)

    def head(self, tokens: float) -> float:
        """The product that computes the logits of ``tokens``."""
        return tokens * self.speed.layer("forward", self.hidden * self.vocabulary).per_token

    def logits(self, tokens: float, by_logit: float) -> float:
        """The logits of ``tokens``, and ``by_logit`` seconds for each of them."""
        return self.head(tokens) + tokens * self.vocabulary * by_logit

    def quantized(self, kernel: Kernel, calls: float, tokens: float) -> float:
        """Additional time of quantized modules in ``calls`` forward passes of ``tokens`` each."""
        cost = self.speed.quantized[kernel]
        by_layer = self.modules * cost.call + self.weights * (cost.per_weight + cost.per_product * tokens)
        return calls * self.layers * by_layer

    @property
    def sampled(self) -> float:
        """Share of the weights of linear modules that belong to sampled outputs."""
        weights = sum(each.width * sum(each.outputs) for each in self.linears)
        return sum(each.width * sum(map(sampled, each.outputs)) for each in self.linears) / weights

    @property
    def modules(self) -> int:
        """Linear modules of a layer."""
        return sum(len(each.outputs) for each in self.linears)

    # -- files

    @property
    def load(self) -> float:
        """Loading it in 16 bits."""
        files = self.speed.files
        return files.model + self.layers * files.layer + self.stored * files.read_byte

    @property
    def write(self) -> float:
        """Writing it in 16 bits."""
        return self.speed.files.model + self.stored * self.speed.files.write_byte

    @property
    def adapt(self) -> float:
        """Attaching adapters to it."""
        return self.layers * self.speed.files.adapters

    # -- fitting

    def moments(self, sequences: float, tokens: float) -> float:
        """A forward pass that sums the moments of the inputs of all linear modules."""
        products = sum(each.width**2 * each.share for each in self.linears) * _MEASURED_ROOT * tokens
        return self.passes("forward", sequences, tokens) + sequences * self.layers * products * self.speed.product

    def fit(
        self, names: Sequence[str], sequences: float, tokens: float, settings: QuantizeConfig, share: float = 1.0,
        *, moments_kept: bool = False,
    ) -> float:  # fmt: skip
        """Fitting a ``share`` of the outputs of every linear module at each of the precisions ``names`` below 16 bits
        on calibration text, and writing the files; ``moments_kept``: moments of the inputs are read from files."""
        precisions, encoding = len(names) * share, self.encode(names) * share
        files = self.layers * self.modules * precisions * self.speed.files.file
        rounds = settings.loftq_iterations / 2
        if settings.rounding == "nearest":
            weights = self.layers * self.held * precisions
            scales = self.passes("forward", sequences, tokens) if settings.needs_input_scales else 0.0
            return scales + weights * self.speed.fit.nearest * rounds + encoding + files
        each = sum(self._fit_of(one.width, one.outputs, precisions, max(rounds, 0.5)) for one in self.linears)
        constants = max(encoding - precisions * self.encode(_MEASURED_FITS) / len(_MEASURED_FITS), 0.0)
        moments = 0.0 if moments_kept else self.moments(sequences, tokens)
        return moments + self.layers * each + constants + files

    def _fit_of(self, inputs: int, outputs: Sequence[int], precisions: float, rounds: float) -> float:
        cost, total = self.speed.fit, sum(outputs)
        return (
            cost.module * len(outputs) * precisions * rounds
            + cost.column * inputs
            + cost.weight * inputs * total * precisions
            + self.speed.product * fit_products(inputs, total, precisions)
        )

    def refit(self, sequences: float, tokens: float) -> float:
        """Refitting the weights at the end of the MLPs: a forward pass with the moments of their inputs, and a
        system."""
        inputs, outputs, _ = self.linears[-1]
        products = inputs**2 * _MEASURED_ROOT * tokens * sequences + inputs**3 / 3 + inputs**2 * sum(outputs)
        return self.passes("forward", sequences, tokens) + self.layers * products * self.speed.product

    def values(self, precisions: float) -> float:
        """The values of every linear module at so many precisions, read from files of fits."""
        decoding = self.held * _PASSES_OF_DECODING * self.speed.logits.loss
        return self.layers * precisions * (self.modules * self.speed.files.file + decoding)

    def encode(self, names: Sequence[str]) -> float:
        """Every weight of the layers rounded to the nearest once at each of the precisions ``names``."""
        return self.layers * self.held * self._rounding(names)

    def encode_outside(self, names: Sequence[str]) -> float:
        """Embeddings and head rounded to the nearest once at each of the precisions ``names``."""
        return self.outside * self._rounding(names)

    def _rounding(self, names: Sequence[str]) -> float:
        return sum(self.speed.rounding.get(name, 0.0) for name in names)


def _read_by(path: str, family: Family) -> tuple[str, bool]:
    """Name of the inputs of the linear module ``path`` of a layer, and whether it belongs to an expert."""
    declared = family.declared_path(path)
    if EVERY not in declared:
        return family.linears[declared][1], False
    expert, _, name = path.rpartition(".")
    return f"{expert}.{'channels' if name == 'down_proj' else 'states'}", True

"""A weight at its precision, with the adapter that compensates for quantization."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from qpruner_core.fitting.error_feedback import encode_with_feedback
from qpruner_core.fitting.initialisations import INITIALISATIONS
from qpruner_core.fitting.initialisations.qera import qera_exact
from qpruner_core.forward.input_moments import InputMoments
from qpruner_core.precisions import Precision, Tensors
from qpruner_core.quantize.config import QuantizeConfig


@dataclass(frozen=True)
class FittedLinear:
    """Stored tensors of a quantized module, and its adapter: ``a [rank, in]`` and ``b [out, rank]``, float32 on the
    CPU."""

    tensors: Tensors
    a: torch.Tensor
    b: torch.Tensor
    scaling: float

    @property
    def adapts(self) -> bool:
        """Whether the adapter has any effect."""
        return bool(self.b.any())

    def weight(self, precision: Precision) -> torch.Tensor:
        """The float32 weight ``[out, in]`` that module and adapter, as loaded, multiply with together."""
        decoded = precision.decode(self.tensors).float()
        if not self.adapts:
            return decoded
        a, b = (factor.to(decoded.device, torch.bfloat16).float() for factor in (self.a, self.b))
        return decoded.addmm_(b, a, alpha=self.scaling)


@dataclass(frozen=True)
class UnfittedLinear:
    """A ``weight [out, in]`` (bfloat16), its target precision, and its seed; see :func:`module_seed`."""

    weight: torch.Tensor
    precision: Precision
    seed: int


def fit_linears(
    linears: Sequence[UnfittedLinear],
    settings: QuantizeConfig,
    *,
    rank: int | None = None,
    input_scale: torch.Tensor | None = None,
    moments: InputMoments | None = None,
) -> list[FittedLinear]:
    """Quantize weights that share their inputs, and initialise their adapters.

    Alternates ``Q ← quantize(W − s·B·A)`` and ``s·B·A ← approximation of W − dequantize(Q)``, as LoftQ does (arXiv
    2310.08659). ``s = alpha / rank`` is the scaling of the adapter, the same at every ``rank``. For unquantized weights
    and with 0 iterations, ``B`` is zero and ``A`` random.

    Args:
        rank: rank of the adapters; ``None``: that of the settings.
        input_scale: see :class:`Initialisation`; ``qera`` needs it.
        moments: moments of the inputs. With them, the last rounding is that of :func:`encode_with_feedback`, and
            ``qera`` initialises from them afterwards. Without them, all roundings are to the nearest.
    """
    rank = rank or settings.lora_rank
    scaling = settings.lora_alpha / settings.lora_rank
    exact = moments is not None and moments.any and settings.initialisation == "qera" and settings.loftq_iterations > 0
    before = settings.loftq_iterations - exact
    fits = [_Fit(linear, settings, rank, input_scale, before, feedback=moments is not None) for linear in linears]
    if moments is not None:
        rests = [(fit.rest, fit.linear.precision) for fit in fits]
        for fit, tensors in zip(fits, encode_with_feedback(rests, moments), strict=True):
            fit.tensors = tensors
            if exact and not fit.linear.precision.lossless:
                fit.factors = qera_exact(fit.error, moments, rank=rank, seed=fit.linear.seed)
    return [fit.finished(scaling, rank) for fit in fits]


class _Fit:
    """State of one linear module: its stored tensors, and the factors ``A`` and ``B`` of its adapter.

    ``None``: the adapter adds nothing.
    """

    def __init__(
        self,
        linear: UnfittedLinear,
        settings: QuantizeConfig,
        rank: int,
        input_scale: torch.Tensor | None,
        iterations: int,
        *,
        feedback: bool,
    ) -> None:
        begin = INITIALISATIONS[settings.initialisation]
        self.linear = linear
        self.tensors: Tensors = {} if feedback else linear.precision.encode(linear.weight)
        self.factors: tuple[torch.Tensor, torch.Tensor] | None = None
        for iteration in range(0 if linear.precision.lossless else iterations):
            if self.factors is not None and not feedback:
                self.tensors = linear.precision.encode(self.rest.to(torch.bfloat16))
            error = self._error_of_nearest() if feedback else self.error
            self.factors = begin(error, input_scale, rank=rank, seed=linear.seed + iteration)
            if self.factors is None:
                break

    @property
    def rest(self) -> torch.Tensor:
        """The weight minus the adapter, float32."""
        weight = self.linear.weight.float()
        if self.factors is None:
            return weight
        a, b = (factor.to(weight.device) for factor in self.factors)
        return torch.addmm(weight, b, a, alpha=-1.0)

    @property
    def error(self) -> torch.Tensor:
        """The weight minus its stored value, float32."""
        return self.linear.weight.float() - self.linear.precision.decode(self.tensors).float()

    def _error_of_nearest(self) -> torch.Tensor:
        """:attr:`error` if the rest were rounded to the nearest and stored."""
        rest, precision = self.rest, self.linear.precision
        constants = precision.constants(rest)
        grid = precision.grid(constants)
        nearest = precision.decode(constants).float() if grid is None else grid.rounded(rest)
        return self.linear.weight.float() - nearest

    def finished(self, scaling: float, rank: int) -> FittedLinear:
        """The module with its adapter, which adds ``scaling · B·A``."""
        if self.factors is None:
            return FittedLinear(self.tensors, *untrained_factors(self.linear.weight, rank, self.linear.seed), scaling)
        a, b = (factor / math.sqrt(scaling) for factor in self.factors)
        return FittedLinear(self.tensors, a, b, scaling)


def module_seed(seed: int, name: str) -> int:
    """The seed of the module ``name``; independent of the other modules and their order."""
    return int.from_bytes(hashlib.sha256(f"{seed}/{name}".encode()).digest()[:4])


def untrained_factors(weight: torch.Tensor, rank: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """``A`` random and ``B`` zero, as in LoRA (arXiv 2106.09685)."""
    generator = torch.Generator().manual_seed(seed)
    bound = 1 / math.sqrt(weight.shape[1])
    a = torch.empty(rank, weight.shape[1]).uniform_(-bound, bound, generator=generator)
    return a, torch.zeros(weight.shape[0], rank)

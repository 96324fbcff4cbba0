"""A weight at its precision, with the adapter that makes up for what quantization took."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass

import torch

from qpruner_core.precisions import Precision, Tensors
from qpruner_core.quantize.config import QuantizeConfig
from qpruner_core.quantize.error_feedback import encode_with_feedback
from qpruner_core.quantize.initialisations import INITIALISATIONS
from qpruner_core.quantize.initialisations.qera import qera_exact
from qpruner_core.quantize.input_moments import InputMoments


@dataclass(frozen=True)
class FittedLinear:
    """What a quantized module stores, and its adapter: ``a [rank, in]`` and ``b [out, rank]``, float32 on the CPU."""

    tensors: Tensors
    a: torch.Tensor
    b: torch.Tensor
    scaling: float

    @property
    def adapts(self) -> bool:
        """Whether the adapter does anything."""
        return bool(self.b.any())

    def weight(self, precision: Precision) -> torch.Tensor:
        """The float32 weight ``[out, in]`` that module and adapter, as they are loaded, together multiply with."""
        decoded = precision.decode(self.tensors).float()
        if not self.adapts:
            return decoded
        a, b = (factor.to(decoded.device, torch.bfloat16).float() for factor in (self.a, self.b))
        return decoded.addmm_(b, a, alpha=self.scaling)


def fit_linear(
    weight: torch.Tensor,
    precision: Precision,
    settings: QuantizeConfig,
    seed: int,
    *,
    rank: int | None = None,
    input_scale: torch.Tensor | None = None,
    moments: InputMoments | None = None,
) -> FittedLinear:
    """Quantize ``weight [out, in]`` (bfloat16) and begin its adapter.

    Alternates ``Q ← quantize(W − s·B·A)`` and ``s·B·A ← what makes up for W − dequantize(Q)``, as LoftQ does
    (arXiv 2310.08659), where ``s = alpha / rank`` is the scaling that the adapter is applied with, the same at every
    ``rank``. At 16 bits and with 0 iterations there is nothing to make up for: ``B`` is zero and ``A`` random.

    Args:
        seed: see :func:`module_seed`.
        rank: of the adapter; ``None``: that of the settings.
        input_scale: see :class:`Initialisation`; ``qera`` needs it.
        moments: of the inputs. With them the last rounding, of what the adapter leaves, is that of
            :func:`encode_with_feedback`; without them all are to the nearest.
    """
    rank = rank or settings.lora_rank
    scaling = settings.lora_alpha / settings.lora_rank
    begin = INITIALISATIONS[settings.initialisation]
    wanted = weight.float()
    tensors = precision.encode(weight)
    found: tuple[torch.Tensor, torch.Tensor] | None = None
    for iteration in range(settings.loftq_iterations if precision.bits < 16 else 0):
        if found is not None:
            a, b = (factor.to(wanted.device) for factor in found)
            tensors = precision.encode((wanted - b @ a).to(torch.bfloat16))
        error = wanted - precision.decode(tensors).float()
        found = begin(error, input_scale, rank=rank, seed=seed + iteration)
        if found is None:
            break
    if moments is not None:
        rest = wanted if found is None else wanted - found[1].to(wanted.device) @ found[0].to(wanted.device)
        tensors = encode_with_feedback(rest, precision, moments)
        if settings.initialisation == "qera" and found is not None and moments.any:
            error = wanted - precision.decode(tensors).float()
            found = qera_exact(error, moments.root, rank=rank, seed=seed)
    if found is None:
        return FittedLinear(tensors, *_untrained(weight, rank, seed), scaling)
    root = math.sqrt(scaling)
    return FittedLinear(tensors, found[0] / root, found[1] / root, scaling)


def module_seed(seed: int, name: str) -> int:
    """The seed of the module ``name``: it does not depend on which other modules are fitted, and in which order."""
    return int.from_bytes(hashlib.sha256(f"{seed}/{name}".encode()).digest()[:4])


def _untrained(weight: torch.Tensor, rank: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """``A`` random and ``B`` zero, as LoRA starts (arXiv 2106.09685)."""
    generator = torch.Generator().manual_seed(seed)
    bound = 1 / math.sqrt(weight.shape[1])
    a = torch.empty(rank, weight.shape[1]).uniform_(-bound, bound, generator=generator)
    return a, torch.zeros(weight.shape[0], rank)

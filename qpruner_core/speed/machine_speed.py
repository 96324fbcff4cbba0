"""Measured seconds of the parts of the stages on one machine. Imports no torch."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

from pydantic import Field

from qpruner_core.strict import StrictModel

Pass = Literal["forward", "adapted", "backward", "gradients", "training"]
"""A pass through a decoder layer: forward, forward with adapters, backward to the inputs, importance from gradients of
the weights (forward, backward and their reduction), or a training step of the adapters."""
Kernel = Literal["nf4", "int8", "llm_int8"]
"""A kind of quantized module."""
Seconds = float


class PassCost(StrictModel):
    """One pass through one layer takes ``call + per_token · tokens`` seconds."""

    call: Seconds = Field(ge=0)
    per_token: Seconds = Field(ge=0)


class LayerCost(StrictModel):
    """The passes through a layer with so many ``weights`` and this ``hidden`` size."""

    weights: int = Field(ge=1)
    hidden: int = Field(ge=1)
    passes: dict[Pass, PassCost]


class QuantizedCost(StrictModel):
    """Additional time of a quantized module over a 16-bit one: per call, per weight, and per token and weight."""

    call: Seconds = Field(ge=0)
    per_weight: Seconds = Field(ge=0)
    per_product: Seconds = Field(ge=0)


class LogitCost(StrictModel):
    """Seconds per logit, without the product that computes it: of cross-entropy, of a divergence, and of distillation
    with its gradient."""

    loss: Seconds = Field(ge=0)
    divergence: Seconds = Field(ge=0)
    distillation: Seconds = Field(ge=0)


class FitCost(StrictModel):
    """Time of fitting linear modules that share inputs: seconds per module and precision, per input, and per weight and
    precision, without the float32 products; ``nearest`` per weight and precision without error feedback."""

    module: Seconds = Field(ge=0)
    column: Seconds = Field(ge=0)
    weight: Seconds = Field(ge=0)
    nearest: Seconds = Field(ge=0)


class FileCost(StrictModel):
    """Seconds to load a model, per model and per layer; to attach adapters to a layer; per small file; and per byte."""

    model: Seconds = Field(ge=0)
    layer: Seconds = Field(ge=0)
    adapters: Seconds = Field(ge=0)
    file: Seconds = Field(ge=0)
    read_byte: Seconds = Field(ge=0)
    write_byte: Seconds = Field(ge=0)


class MachineSpeed(StrictModel):
    """One machine: its identity, and its time for the parts of the stages.

    ``key`` digests everything that the figures depend on. ``layers``: by ascending weights. ``rounding``: of rounding a
    weight to the nearest and packing it, by precision. ``product``: seconds of one multiply-add of a large float32
    product. ``token``: of generating one token, without its layers. ``cluster`` and ``cluster_value``: of a layer's
    mutual information, and of each of its values. ``proposal``: of the search, for 12 groups. ``collect``: of a garbage
    collection, which follows each model.
    """

    key: str
    machine: str
    gpu: bool
    layers: tuple[LayerCost, ...] = Field(min_length=1)
    quantized: dict[Kernel, QuantizedCost]
    logits: LogitCost
    fit: FitCost
    rounding: dict[str, Seconds]
    files: FileCost
    product: Seconds = Field(ge=0)
    token: Seconds = Field(ge=0)
    cluster: Seconds = Field(ge=0)
    cluster_value: Seconds = Field(ge=0)
    proposal: Seconds = Field(ge=0)
    collect: Seconds = Field(ge=0)

    def layer(self, kind: Pass, weights: float) -> PassCost:
        """Seconds of ``kind`` in a layer of ``weights``, interpolated between the measured layers."""
        measured = [(layer.weights, layer.passes[kind]) for layer in self.layers]
        return PassCost(
            call=_between([(size, cost.call) for size, cost in measured], weights),
            per_token=_between([(size, cost.per_token) for size, cost in measured], weights),
        )


def fit_products(inputs: float, outputs: float, precisions_below_16: float) -> float:
    """Multiply-adds in float32 of fitting a module with error feedback, after factorising the moments of its inputs."""
    return inputs**3 + 1.1 * precisions_below_16 * outputs * inputs**2


def _between(points: Sequence[tuple[float, float]], size: float) -> float:
    """Log-log interpolation of ``points`` at ``size``: constant below the first, proportional to the size above the
    last."""
    if size <= points[0][0]:
        return points[0][1]
    if size >= points[-1][0]:
        return points[-1][1] * size / points[-1][0]
    upper = next(index for index, (known, _) in enumerate(points) if known > size)
    (low, at_low), (high, at_high) = points[upper - 1], points[upper]
    share = math.log(size / low) / math.log(high / low)
    if at_low <= 0 or at_high <= 0:
        return at_low + (at_high - at_low) * share
    return math.exp(math.log(at_low) + (math.log(at_high) - math.log(at_low)) * share)

"""How well each estimator of mutual information orders a model's layers, against the true effect of their precision."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from pydantic import BaseModel
from scipy.stats import spearmanr

from bench.allocation_loss import HIGH, LOW, AllocationLoss, Loss
from qpruner_core.score.config import ScoreConfig
from qpruner_core.score.information import ESTIMATORS
from qpruner_core.score.information.estimator import merge_rare
from qpruner_core.score.information.layer_outputs import LayerOutputs

DEPTH, ALONE, SPARED, CHANCE = "depth", "effect of NF4 alone", "effect of 16 bits alone", "chance"
_DRAWS = 19
"""Random orders: another is better than all of them by chance in one of 20 cases."""


class LayerEffects(BaseModel):
    """Losses of the whole model: ``dense``: no layer is NF4; ``low``: all are; ``alone[i]``: layer i is; ``spared[i]``:
    all but layer i are."""

    dense: Loss
    low: Loss
    alone: list[Loss]
    spared: list[Loss]

    def of_low(self) -> list[float]:
        """What NF4 in each layer alone costs, nats of divergence a token."""
        return [loss.divergence for loss in self.alone]

    def of_high(self) -> list[float]:
        """What 16 bits in each layer win where all others are NF4, nats of divergence a token."""
        return [self.low.divergence - loss.divergence for loss in self.spared]

    def of_low_on_loss(self) -> list[float]:
        """As :meth:`of_low`, in log perplexity."""
        return [loss.log_perplexity - self.dense.log_perplexity for loss in self.alone]

    def of_high_on_loss(self) -> list[float]:
        """As :meth:`of_high`, in log perplexity."""
        return [self.low.log_perplexity - loss.log_perplexity for loss in self.spared]


class LayerOrder(BaseModel):
    """How an order of the layers does. ``scores``: one a layer, the highest first to be kept in 16 bits. Spearman's
    rank correlations with the effects of :class:`LayerEffects`; ``depth``: with the number of the layer; ``repeated``:
    with the same scores on other text (``None``: it has no text); ``half``: the model with the better half of the
    layers in 16 bits, the others NF4."""

    name: str
    scores: list[float]
    alone: float
    spared: float
    alone_on_loss: float
    spared_on_loss: float
    depth: float
    repeated: float | None
    half: Loss


def measure_effects(loss: AllocationLoss, on_layer: Callable[[int, int], None]) -> LayerEffects:
    """The true effect of every layer's precision."""
    layers, alone, spared = loss.layers, [], []
    dense, low = loss([HIGH] * layers), loss([LOW] * layers)
    for layer in range(layers):
        alone.append(loss([LOW if other == layer else HIGH for other in range(layers)]))
        spared.append(loss([HIGH if other == layer else LOW for other in range(layers)]))
        on_layer(layer + 1, layers)
    return LayerEffects(dense=dense, low=low, alone=alone, spared=spared)


def information_scores(outputs: LayerOutputs, settings: ScoreConfig, seed: int) -> dict[str, list[float]]:
    """Nats of every layer by every estimator."""
    labels = merge_rare(outputs.predicted, settings.predictions)
    directions = [outputs.directions(layer) for layer in range(len(outputs.hidden))]
    return {
        name: [estimate(vectors, labels, settings, seed) for vectors in directions]
        for name, estimate in ESTIMATORS.items()
    }


def compare_orders(
    effects: LayerEffects,
    loss: AllocationLoss,
    scores: Mapping[str, Sequence[float]],
    repeated: Mapping[str, Sequence[float]],
) -> list[LayerOrder]:
    """How the estimators' ``scores`` do, beside those that know the effects, the depth, or nothing."""
    others: dict[str, Sequence[float]] = {
        DEPTH: list(range(loss.layers)), ALONE: effects.of_low(), SPARED: effects.of_high()
    }  # fmt: skip
    for draw in range(_DRAWS):
        others[f"{CHANCE} {draw + 1}"] = np.random.default_rng(draw).permutation(loss.layers).tolist()
    return [_order(effects, loss, name, own, repeated.get(name)) for name, own in {**scores, **others}.items()]


def _order(
    effects: LayerEffects, loss: AllocationLoss, name: str, scores: Sequence[float], repeated: Sequence[float] | None
) -> LayerOrder:
    best = set(sorted(range(loss.layers), key=lambda layer: -scores[layer])[: loss.layers // 2])
    return LayerOrder(
        name=name,
        scores=list(scores),
        alone=_spearman(scores, effects.of_low()),
        spared=_spearman(scores, effects.of_high()),
        alone_on_loss=_spearman(scores, effects.of_low_on_loss()),
        spared_on_loss=_spearman(scores, effects.of_high_on_loss()),
        depth=_spearman(scores, range(loss.layers)),
        repeated=None if repeated is None else _spearman(scores, repeated),
        half=loss([HIGH if layer in best else LOW for layer in range(loss.layers)]),
    )


def _spearman(first: Sequence[float], second: Sequence[float]) -> float:
    if len(set(first)) < 2 or len(set(second)) < 2:
        return 0.0  # what is the same everywhere has no order
    return float(spearmanr(first, second).statistic)

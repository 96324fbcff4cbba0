"""The figures of :mod:`bench.information` as a page."""

from __future__ import annotations

from collections.abc import Callable
from statistics import median

from pydantic import BaseModel

from bench.best_estimator import best_estimators, chance_bound
from bench.estimator_error import EstimatorError
from bench.fitted_layers import how_fitted
from bench.layer_order import CHANCE, LayerEffects, LayerOrder
from bench.report import Machine
from qpruner_core.quantize.config import QuantizeConfig
from qpruner_core.score.config import ScoreConfig
from qpruner_core.score.information import ESTIMATORS

_PAGE = """\
# Mutual information

Written by `bench/information.py` on {date} (`make bench-information`; `DATA=folder` for texts of your own).

- Machine: {machine}; {threads} threads
- Versions: {versions}
- Settings: {clusters} clusters, {neighbours} neighbours, {components} principal components, {predictions} predictions

## Where the answer is known

Bias ± standard deviation of a single estimate, in nats, over {seeds} samples of each size. Known values are means of
the true log p(y|x) / p(y) over 50,000 samples.

{errors}

## Which orders the layers best

{model}, pruned by {ratio:.0%} with the product's defaults; {layers} layers. Scores are measured on {sequences}
sequences of {length} tokens of {calibration}, effects on {tokens} tokens of {evaluated}: perplexity {dense:.2f} in 16
bits, {low:.2f} with every layer NF4 (divergence {low_divergence:.3f} nats a token).
NF4 modules are {fitted}.

- **NF4 alone**: rank correlation (Spearman) of the scores with what NF4 in that layer alone costs, in KL divergence
  from the 16-bit model and, in brackets, in log perplexity.
- **16 bits alone**: the same with what 16 bits in that layer win where all others are NF4.
- **depth**: with the number of the layer. **other text**: with the same scores on as many other sequences.
- **half**: perplexity and divergence of the model with the better half of the layers in 16 bits, the others NF4.

With {layers} layers, a correlation of an order without any sense is within ±{chance:.2f} in 95 of 100 cases; the best
of {estimators} is above it by luck in {luck:.0%}. For chance there are the medians of {draws} random orders.

{orders}

{best}

## Every layer

{layer_table}
"""
TITLE = _PAGE.partition("\n")[0]


class Limits(BaseModel):
    """What was measured on what; ``seeds``: samples of each size."""

    ratio: float
    tokens: int
    seeds: int
    calibration_text: str
    calibration_sequences: int
    calibration_length: int
    evaluated_text: str


class Report(BaseModel):
    """All figures of a run."""

    model: str
    limits: Limits
    machine: Machine
    settings: ScoreConfig
    errors: list[EstimatorError]
    effects: LayerEffects
    orders: list[LayerOrder]
    quantize: QuantizeConfig


def page(report: Report) -> str:
    """The figures as markdown."""
    limits, effects, layers = report.limits, report.effects, len(report.effects.alone)
    return _PAGE.format(
        **report.machine.model_dump(), **report.settings.model_dump(), model=report.model, seeds=limits.seeds,
        ratio=limits.ratio, layers=layers, sequences=limits.calibration_sequences, length=limits.calibration_length,
        calibration=limits.calibration_text, tokens=limits.tokens, evaluated=limits.evaluated_text,
        dense=effects.dense.perplexity, low=effects.low.perplexity, low_divergence=effects.low.divergence,
        fitted=how_fitted(report.quantize), chance=chance_bound(layers), luck=1 - 0.975 ** len(ESTIMATORS),
        estimators=len(ESTIMATORS), draws=len(_draws(report.orders)),
        errors=_errors(report.errors), orders=_orders(report.orders), best=best_estimators(report.orders),
        layer_table=_layers(report),
    )  # fmt: skip


def _errors(rows: list[EstimatorError]) -> str:
    lines = [_header("case", "known", "samples", *ESTIMATORS)]
    for case, samples in dict.fromkeys((row.case, row.samples) for row in rows):
        own = {row.estimator: row for row in rows if (row.case, row.samples) == (case, samples)}
        cells = [f"{row.bias:+.3f} ± {row.deviation:.3f}" for row in own.values()]
        lines.append(_line(case, f"{next(iter(own.values())).known:.3f}", str(samples), *cells))
    return "\n".join(lines)


def _orders(orders: list[LayerOrder]) -> str:
    lines = [_header("order", "NF4 alone", "16 bits alone", "depth", "other text", "half: perplexity", "divergence")]
    draws = _draws(orders)
    lines += [_order(order.name, [order]) for order in orders if order not in draws]
    return "\n".join([*lines, _order(CHANCE, draws)])


def _draws(orders: list[LayerOrder]) -> list[LayerOrder]:
    return [order for order in orders if order.name.startswith(CHANCE)]


def _order(name: str, orders: list[LayerOrder]) -> str:
    """The line of an order; of several their medians."""

    def middle(value: Callable[[LayerOrder], float]) -> float:
        return median(map(value, orders))

    repeated = [order.repeated for order in orders if order.repeated is not None]
    return _line(
        name,
        f"{middle(lambda order: order.alone):+.2f} ({middle(lambda order: order.alone_on_loss):+.2f})",
        f"{middle(lambda order: order.spared):+.2f} ({middle(lambda order: order.spared_on_loss):+.2f})",
        f"{middle(lambda order: order.depth):+.2f}",
        f"{median(repeated):+.2f}" if repeated else "",
        f"{middle(lambda order: order.half.perplexity):.2f}",
        f"{middle(lambda order: order.half.divergence):.4f}",
    )


def _layers(report: Report) -> str:
    scores = {order.name: order.scores for order in report.orders if order.name in ESTIMATORS}
    lines = [_header("layer", "NF4 alone", "16 bits alone", *scores)]
    for layer, (low, high) in enumerate(zip(report.effects.of_low(), report.effects.of_high(), strict=True)):
        lines.append(
            _line(str(layer), f"{low:.4f}", f"{high:+.4f}", *(f"{values[layer]:.3f}" for values in scores.values()))
        )
    return "\n".join(lines)


def _header(first: str, *names: str) -> str:
    return _line(first, *names) + "\n|---|" + "---:|" * len(names)


def _line(*cells: str) -> str:
    return "| " + " | ".join(cells) + " |"

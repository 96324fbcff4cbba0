"""The figures of the sensitivity benchmark, and the page that tells them."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Annotated

from pydantic import AliasChoices, BaseModel, BeforeValidator, ConfigDict, Field
from scipy.stats import spearmanr

from bench.fitted_layers import how_fitted
from bench.report import Machine
from qpruner_core.precision_names import precision_names
from qpruner_core.quantize.config import QuantizeConfig

TITLE = "# What foretells the harm of a precision"

_LOW = {"nf4": "4 bits", "int8": "8 bits"}
_MEASURES = ("divergence", "log_perplexity")


class Effect(BaseModel):
    """On held-out text, against the 16-bit model, in nats per token."""

    divergence: float
    log_perplexity: float


class Score(BaseModel):
    """A score of every (group, precision), and the seconds that it took."""

    sensitivity: Annotated[list[dict[str, float]], BeforeValidator(precision_names)]
    seconds: float

    def additive(self, precisions: Sequence[str]) -> float:
        """Its prediction for an allocation."""
        return sum(group[option] for group, option in zip(self.sensitivity, precisions, strict=True))


class Allocation(BaseModel):
    """A random allocation within a budget, and what it did; ``share``: of the way from all 4 to all 16 bits."""

    model_config = ConfigDict(populate_by_name=True)

    share: float
    precisions: Annotated[tuple[str, ...], BeforeValidator(precision_names)] = Field(
        validation_alias=AliasChoices("precisions", "bits")
    )
    effect: Effect


class Speed(BaseModel):
    """Seconds of every trial: of the search, of a screening on fewer tokens, of rounding all modules to the nearest
    anew and evaluating; ``quantizing``: the part of the last that is not evaluating."""

    trial: list[float]
    screening: list[float]
    anew: list[float]
    quantizing: list[float]


class SensitivityReport(BaseModel):
    """All that was measured: ``sequences`` of ``length`` tokens calibrate and as many of ``text`` are held out."""

    model: str
    ratio: float
    sequences: int
    length: int
    samples: int
    text: str
    machine: Machine
    quantize: QuantizeConfig
    groups: list[str]
    scores: dict[str, Score]
    effects: Annotated[list[dict[str, Effect]], BeforeValidator(precision_names)]
    allocations: list[Allocation]
    speed: Speed


def render(report: SensitivityReport) -> str:
    """The page, as markdown."""
    return "\n".join([*_head(report), *_layers(report), *_random(report), *_speed(report)])


def _head(report: SensitivityReport) -> list[str]:
    machine = report.machine
    tokens = report.sequences * report.length
    return [
        TITLE,
        "",
        f"`{report.model}`, pruned by {report.ratio:.0%} with the defaults. {tokens} tokens calibrate the scores, "
        f"{tokens} tokens of {report.text} are held out. Made by `make bench-sensitivity`.",
        "",
        f"{machine.machine}; {machine.threads} thread; {machine.versions}; {machine.date}.",
        "",
        "Rank correlations are Spearman's. KL divergence and log perplexity are against the 16-bit pruned model, on "
        "the held-out text. Scores: `score.sensitivity` with its `sensitivity_context`; mutual information "
        f"is counted for every bit that a layer lacks. Modules below 16 bits are {how_fitted(report.quantize)}.",
        "",
    ]


def _layers(report: SensitivityReport) -> list[str]:
    lines = [
        "## One layer alone",
        "",
        "Over the layers, all others at 16 bits:",
        "",
        "| score | seconds | " + " | ".join(f"{bits}: KL | log perplexity" for bits in _LOW.values()) + " |",
        "|---" * (2 + 2 * len(_LOW)) + "|",
    ]
    for name, score in report.scores.items():
        cells = [
            _correlation(
                [group[precision] for group in score.sensitivity],
                [getattr(effect[precision], measure) for effect in report.effects],
            )
            for precision in _LOW
            for measure in _MEASURES
        ]
        lines.append(f"| {name} | {score.seconds:.0f} | " + " | ".join(cells) + " |")
    worst = sorted(range(len(report.groups)), key=lambda index: -report.effects[index]["nf4"].divergence)[:3]
    named = ", ".join(f"{report.groups[index]} ({report.effects[index]['nf4'].divergence:.3f})" for index in worst)
    return [*lines, "", f"Largest KL at 4 bits: {named}.", ""]


def _random(report: SensitivityReport) -> list[str]:
    shares = sorted({allocation.share for allocation in report.allocations})
    cases = [(f"{share:.0%}", [one for one in report.allocations if one.share == share]) for share in shares]
    cases.append(("all", report.allocations))
    lines = [
        "## Random allocations",
        "",
        f"The sum of a score over the layers, against what {len(report.allocations)} random allocations do. Budgets as "
        "share of the way from all layers at 4 bits to all at 16:",
        "",
        "| score | " + " | ".join(f"{name}: KL | log perplexity" for name, _ in cases) + " |",
        "|---" * (1 + 2 * len(cases)) + "|",
    ]
    for name, score in report.scores.items():
        cells = []
        for _, some in cases:
            predicted = [score.additive(allocation.precisions) for allocation in some]
            cells += [_correlation(predicted, [getattr(one.effect, measure) for one in some]) for measure in _MEASURES]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    losses = sorted(allocation.effect.divergence for allocation in report.allocations)
    return [
        *lines,
        "",
        f"Their KL: {losses[0]:.2f} to {losses[-1]:.2f} nats, median {statistics.median(losses):.2f}.",
        "",
    ]


def _speed(report: SensitivityReport) -> list[str]:
    speed = report.speed
    anew = statistics.median(speed.anew)
    rows = [
        ("round every module to the nearest anew and evaluate", speed.anew),
        ("a trial of the search", speed.trial),
        ("a screening trial, a quarter of the tokens", speed.screening),
    ]
    return [
        "## A trial of the search",
        "",
        f"Two layers of a known allocation swap their bits; {report.sequences * report.length} tokens; median of "
        f"{len(speed.trial)}:",
        "",
        "| | seconds | times as fast |",
        "|---|---|---|",
        *(f"| {name} | {statistics.median(some):.2f} | {anew / statistics.median(some):.1f} |" for name, some in rows),
        "",
        f"Of the first, {statistics.median(speed.quantizing):.2f} s are rounding. {speed_line(report)} "
        "That is less than the product does; [paper.md](paper.md) has how much longer fitting anew takes.",
        "",
    ]


def speed_line(report: SensitivityReport) -> str:
    """How many times as fast a trial is, median against median."""
    times = statistics.median(report.speed.anew) / statistics.median(report.speed.trial)
    return f"A trial is {times:.1f} times as fast as rounding to the nearest anew and evaluating."


def _correlation(score: Sequence[float], truth: Sequence[float]) -> str:
    if len(set(score)) < 2 or len(set(truth)) < 2:
        return "–"  # what is the same everywhere has no order
    return f"{float(spearmanr(score, truth).statistic):.2f}"

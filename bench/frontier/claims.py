"""What the benchmark must show, worked out from its rows."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from statistics import fmean, stdev

from bench.frontier.cells import OURS
from bench.frontier.plan import COMPARED, llama_row, our_row
from bench.frontier.rows import FrontierReport, FrontierRow

MOST = {"Q2_K": 0.6, "Q3_K_M": 0.7, "Q4_K_M": 0.7, "Q5_K_M": 0.7}
"""The share of the KL of ``llama-quantize`` that ours may have at the bytes of each type."""
MOST_SECONDS = 5.0
RIVALS = ("AutoRound", "GPTQ W4A16", "AWQ W4A16")


@dataclass(frozen=True)
class Ratio:
    """KL of one row over that of another on the same windows, and the standard error of the ratio over windows."""

    value: float
    error: float

    def __str__(self) -> str:
        return f"{self.value:.2f} ± {self.error:.2f}"


@dataclass(frozen=True)
class Claim:
    """``holds`` is ``None`` where a row is missing. ``kind``, ``model``: for the reasons. ``found``: the figure."""

    kind: str
    model: str
    what: str
    holds: bool | None
    found: str


def claims(report: FrontierReport) -> list[Claim]:
    """All claims, model by model."""
    found: list[Claim] = []
    for model in report.amounts.models:
        rows = {row.name: row for row in report.rows if row.model == model and not row.failure}
        found += _against_llama(model, rows)
        found += _against_rivals(model, rows)
        found += _seconds(model, rows)
    return found


def ratio(own: FrontierRow, other: FrontierRow, text: str) -> Ratio:
    """Of the mean divergences on ``text``; its error by the delta method, over windows that both were measured on."""
    ours, theirs = own.texts[text].windows, other.texts[text].windows
    value = fmean(ours) / max(fmean(theirs), 1e-9)
    residuals = [a - value * b for a, b in zip(ours, theirs, strict=True)]
    error = stdev(residuals) / math.sqrt(len(residuals)) / max(fmean(theirs), 1e-9) if len(residuals) > 1 else 0.0
    return Ratio(value, error)


def _against_llama(model: str, rows: Mapping[str, FrontierRow]) -> Iterator[Claim]:
    for kind, most in MOST.items():
        other = rows.get(llama_row(kind))
        own = rows.get(our_row(llama_row(kind)))
        what = f"KL at most {most} of `llama-quantize` {kind} with imatrix, in its bytes"
        yield from _ratios("llama", model, what, own, other, most)


def _against_rivals(model: str, rows: Mapping[str, FrontierRow]) -> Iterator[Claim]:
    for name, other in rows.items():
        if not name.startswith(RIVALS) or name.startswith(OURS):
            continue
        own = _ours_within(rows, other)
        yield from _ratios("rival", model, f"KL below that of {name}, in its bytes", own, other, 1.0)


def _ours_within(rows: Mapping[str, FrontierRow], other: FrontierRow) -> FrontierRow | None:
    """Ours at the bytes of ``other``: the largest of our unpruned ones in its format that does not take more."""
    group = OURS if other.texts and other.group.startswith("AutoRound") else f"{OURS}, compressed-tensors"
    fitting = [row for row in rows.values() if row.group == group and row.bytes <= other.bytes]
    return max(fitting, key=lambda row: row.bytes, default=None)


def _ratios(
    kind: str, model: str, what: str, own: FrontierRow | None, other: FrontierRow | None, most: float
) -> Iterator[Claim]:
    if own is None or other is None:
        yield Claim(kind, model, what, None, "not measured")
        return
    for text in other.texts:
        found = ratio(own, other, text)
        holds = found.value <= most if most < 1 else found.value < most
        yield Claim(kind, model, f"{what}, {text}", holds, str(found))


def _seconds(model: str, rows: Mapping[str, FrontierRow]) -> Iterator[Claim]:
    for kind in COMPARED:
        other, own = rows.get(llama_row(kind)), rows.get(our_row(llama_row(kind)))
        if other is None and kind not in MOST:
            continue
        what = f"CPU-seconds at most {MOST_SECONDS:g} times those of `llama-imatrix` and `llama-quantize` {kind}"
        if own is None or other is None:
            yield Claim("seconds", model, what, None, "not measured")
            continue
        times = own.cost.cpu_seconds / max(other.cost.cpu_seconds, 1e-9)
        found = f"{times:.1f} times: {own.cost.cpu_seconds:.0f} s of {other.cost.cpu_seconds:.0f} s"
        yield Claim("seconds", model, what, times <= MOST_SECONDS, found)

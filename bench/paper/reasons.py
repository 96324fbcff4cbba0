"""Why the paper's claim fails where it does, from the same rows."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean

from bench.paper.claims import LESS_MEMORY, Claim
from bench.paper.methods import LLM_PRUNER, OURS_FROM_TEXT, QPRUNER1, QPRUNER3
from bench.paper.rows import MemoryRow, PaperReport, memory_of, of_method
from bench.study.tables import markdown_table
from qpruner_core.sizes import format_bytes

_MEMORY = (
    "*Memory of recovery.* Beside the model's own bytes, recovery holds activations, logits, and the adapters with "
    "their gradients and the optimizer's state. These are nearly the same for every method, and beside a model as "
    f"small as this they are much, so that {LESS_MEMORY:.0%} less in all asks for far more than {LESS_MEMORY:.0%} "
    "less of weights. At the shape of a larger model, weights are most of it: [cpu_recovery.md](cpu_recovery.md). A "
    "teacher adds the dense model; learning from text does not. Each method's bytes, and what is beside them (of "
    "LLM-Pruner, adapters too, as they can be merged there):"
)
_QUALITY = (
    "*Perplexity.* QPruner's methods and LLM-Pruner differ in nothing but quantization, so the whole difference is "
    "what quantization costs: adapters and as many steps of recovery do not win back all that rounding to the nearest "
    "loses, the less the fewer bytes there are. Ours prunes otherwise, and its rounding makes up for its own errors."
)
_COMPARED = (LLM_PRUNER, QPRUNER1, QPRUNER3, OURS_FROM_TEXT)


def reasons(report: PaperReport, claims: Sequence[Claim]) -> list[str]:
    """Paragraphs and a table about those of ``claims`` that fail; empty where none does."""
    failed = [claim.what for claim in claims if claim.holds is False]
    found: list[str] = []
    if any("in recovery" in what for what in failed):
        found += [_MEMORY, _memory_table(report)]
    if any(what.startswith(f"{QPRUNER3.name}: no worse") and "perplexity" in what for what in failed):
        found.append(_QUALITY)
    return found


def _memory_table(report: PaperReport) -> str:
    """Of every ratio and kind of recovery, what each method's model has and what is beside it."""
    lines = [
        [f"{ratio:.0%}", how, *(_split(report, method.name, ratio, how) for method in _COMPARED)]
        for ratio in report.amounts.ratios
        for how in ("kept", "recomputed")
    ]
    return markdown_table(["pruned", "activations", *(method.name for method in _COMPARED)], lines)


def _split(report: PaperReport, method: str, ratio: float, how: str) -> str:
    rows, peaks = of_method(report.rows, method, ratio), memory_of(report.memory, method, ratio)
    if not rows or peaks is None:
        return "–"
    size = round(fmean(row.bytes for row in rows))
    return f"{format_bytes(size)} + {format_bytes(_peak(peaks, how) - size)}"


def _peak(row: MemoryRow, how: str) -> int:
    return (row.kept if how == "kept" else row.recomputed).resident

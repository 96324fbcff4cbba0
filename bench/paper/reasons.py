"""Why the paper's claim holds where it does and not elsewhere, from the same rows."""

from __future__ import annotations

from statistics import fmean

from bench.paper.claims import LESS_MEMORY
from bench.paper.methods import LLM_PRUNER, OURS_FROM_TEXT, QPRUNER1, QPRUNER3
from bench.paper.report import PaperReport
from bench.paper.rows import MemoryRow, memory_of, of_method
from bench.paper.tables import markdown_table
from qpruner_core.sizes import format_bytes

_MEMORY = (
    "*Memory of recovery.* Beside the model's own bytes, recovery holds activations, logits, and the adapters "
    "with their gradients and the optimizer's state. These are nearly the same for every method, and beside a "
    f"model as small as this they are much, so that {LESS_MEMORY:.0%} less in all asks for far more than "
    f"{LESS_MEMORY:.0%} less of weights: it fails where a method has more bytes than the table says are left. At "
    "the shape of a larger model, weights are most of it: [cpu_recovery.md](cpu_recovery.md). A teacher adds the "
    "dense model; learning from text does not."
)
_QUALITY = (
    "*Perplexity.* QPruner's methods and LLM-Pruner differ in nothing but quantization, so the whole difference "
    "is what quantization costs: adapters and as many steps of recovery do not win back all that rounding to the "
    "nearest loses, the less the fewer bytes there are. Ours prunes otherwise, and its rounding makes up for its "
    "own errors."
)


def reasons(report: PaperReport) -> list[str]:
    """Paragraphs and a table; empty where memory was not measured."""
    lines = [
        line
        for ratio in report.amounts.ratios
        for how in ("kept", "recomputed")
        if (line := _memory_line(report, ratio, how)) is not None
    ]
    if not lines:
        return []
    header = ["pruned", "activations", "LLM-Pruner", "of it weights", f"{LESS_MEMORY:.0%} less leaves for weights"]
    names = [f"{method.name} has" for method in (QPRUNER1, QPRUNER3, OURS_FROM_TEXT)]
    return [_MEMORY, markdown_table([*header, *names], lines), _QUALITY]


def _memory_line(report: PaperReport, ratio: float, how: str) -> list[str] | None:
    peaks = memory_of(report.memory, LLM_PRUNER.name, ratio)
    sizes = [_size(report, method.name, ratio) for method in (LLM_PRUNER, QPRUNER1, QPRUNER3, OURS_FROM_TEXT)]
    if peaks is None or None in sizes:
        return None
    theirs, *others = (format_bytes(size) for size in sizes if size is not None)
    peak, weights = _peak(peaks, how), of_method(report.rows, LLM_PRUNER.name, ratio)[0].bytes
    left = (1 - LESS_MEMORY) * peak - (peak - weights)
    return [f"{ratio:.0%}", how, format_bytes(peak), theirs, format_bytes(round(max(left, 0))), *others]


def _peak(row: MemoryRow, how: str) -> int:
    return (row.kept if how == "kept" else row.recomputed).resident


def _size(report: PaperReport, method: str, ratio: float) -> int | None:
    rows = of_method(report.rows, method, ratio)
    return round(fmean(row.bytes for row in rows)) if rows else None

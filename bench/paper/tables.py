"""The benchmark's tables: a line a method, means over its seeds with the standard error over them."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean, stdev

from bench.paper.claims import Claim, mean_accuracy
from bench.paper.measured import AT_CHANCE
from bench.paper.methods import METHODS
from bench.paper.rows import MemoryRow, PaperRow, SearchRow, memory_of, of_method
from bench.study.tables import markdown_table, measures_cell, verdict
from qpruner_core.sizes import format_bytes


def results_table(dense: PaperRow, rows: Sequence[PaperRow], memory: Sequence[MemoryRow], ratio: float) -> str:
    """The methods at ``ratio`` under the dense model: memory, texts, tasks that show damage, seconds."""
    names = [name for name in dense.measures if name not in AT_CHANCE]
    header = ["method", "seeds", "removed", "bytes", "recovery", "recomputed", *names, "mean", "search", "recovery s"]
    size = format_bytes(dense.bytes)
    lines = [["dense, 16 bits", "–", "–", size, "–", "–", *_measured([dense], names), "–", "–"]]
    for own in _by_method(rows, ratio):
        peaks = memory_of(memory, own[0].method, ratio)
        lines.append(
            [
                own[0].method, str(len(own)), f"{fmean(row.removed for row in own):.1%}",
                format_bytes(round(fmean(row.bytes for row in own))),
                *(["–", "–"] if peaks is None else _sizes(peaks)),
                *_measured(own, names),
                f"{fmean(row.search_seconds for row in own):.0f} s",
                f"{fmean(row.seconds['finetune'] for row in own):.0f} s",
            ]
        )  # fmt: skip
    return markdown_table(header, lines)


def at_chance_table(dense: PaperRow, rows: Sequence[PaperRow], ratio: float) -> str:
    """The tasks that the model cannot do even before; empty where none was measured."""
    names = [name for name in dense.measures if name in AT_CHANCE]
    lines = [
        [own[0].method if own[0].ratio else "dense, 16 bits", *(cell(own, name) for name in names)]
        for own in ([dense], *_by_method(rows, ratio))
    ]
    return markdown_table(["method", *names], lines) if names else ""


def claims_table(claims: Sequence[Claim]) -> str:
    """What must be shown, and whether it is."""
    header = ["what", "pruned", "holds", "by"]
    return markdown_table(header, [[claim.what, claim.where, *verdict(claim)] for claim in claims], words=4)


def search_table(searches: Sequence[SearchRow]) -> str:
    """The searches, with what each found and when."""
    lines = []
    for row in searches:
        index, perplexity = row.best[-1]
        found = f"{row.trials[index].second:.0f} s (trial {index + 1}, {row.trials[index].origin})"
        seconds = [f"{row.seconds:.0f}", f"{row.scoring:.0f}"]
        lines.append([row.name, str(len(row.trials)), *seconds, found, f"{perplexity:.2f}"])
    header = ["search", "trials", "seconds", "of them scoring", "best found at", "perplexity before recovery"]
    return markdown_table(header, lines)


def cell(rows: Sequence[PaperRow], name: str) -> str:
    """The measures of a text or task, the mean over seeds; of several, perplexity with its standard error over them."""
    found = [row.measures[name] for row in rows]
    mean: dict[str, float] = {key: fmean(measures[key] for measures in found) for key in found[0]}
    if len(rows) > 1 and "acc" not in mean:
        error = stdev(measures["perplexity"] for measures in found) / len(found) ** 0.5
        return f"{measures_cell(mean)} ±{error:.2f}"
    return measures_cell(mean)


def _measured(rows: Sequence[PaperRow], names: Sequence[str]) -> list[str]:
    accuracy = mean_accuracy(rows)
    mean = "–" if accuracy is None else f"{accuracy[0]:.3f} ±{accuracy[1]:.3f}".replace("0.", ".")
    return [*(cell(rows, name) for name in names), mean]


def _by_method(rows: Sequence[PaperRow], ratio: float) -> list[list[PaperRow]]:
    found = (of_method(rows, method.name, ratio) for method in METHODS)
    return [own for own in found if own]


def _sizes(memory: MemoryRow) -> list[str]:
    return [format_bytes(peak.resident) for peak in (memory.kept, memory.recomputed)]

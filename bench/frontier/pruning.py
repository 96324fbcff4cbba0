"""Where pruning pays: KL by the ratio of pruning, in the same bytes."""

from __future__ import annotations

from collections.abc import Iterator

from bench.frontier.plan import llama_row, our_row, pruned_variant
from bench.frontier.rows import FrontierReport, FrontierRow
from bench.study.tables import markdown_table
from qpruner_core.sizes import format_bytes

_AT = " at "


def pruning(report: FrontierReport) -> Iterator[str]:
    """The section, if any of it was measured."""
    ratios = (0.0, *report.amounts.ratios)
    variants = [pruned_variant(ratio, steps) for steps in (0, report.amounts.steps) for ratio in ratios]
    lines = [line for model in report.amounts.models for line in _lines(report, model, variants)]
    if lines:
        yield "## Pruning and precision together"
        yield markdown_table(["model", "bytes", "text", *variants], lines)
        yield (
            "KL of ours in the same bytes, by the share of the layers' parameters that is pruned; the lowest of each "
            f"kind is bold. Recovery is {report.amounts.steps} steps by the defaults, on the text that calibrates. "
            "*The least bytes* are 3 % more than the smallest checkpoint of ours, not pruned or pruned by that ratio."
        )


def _lines(report: FrontierReport, model: str, variants: list[str]) -> Iterator[list[str]]:
    rows = {row.name: row for row in report.rows if row.model == model and not row.failure}
    places = dict.fromkeys(name.partition(_AT)[2] for name, row in rows.items() if "pruned" in row.group)
    for place in places:
        found = [rows.get(our_row(place, variant)) for variant in variants]
        if found[0] is None and our_row(llama_row(place)) in rows:
            found[0] = rows[our_row(llama_row(place))]
        size = max(row.bytes for row in found if row is not None)
        for text in next(row for row in found if row is not None).texts:
            half = len(found) // 2
            cells = [*_cells(found[:half], text), *_cells(found[half:], text)]
            yield [model, f"{place}: {format_bytes(size)}", text, *cells]


def _cells(rows: list[FrontierRow | None], text: str) -> list[str]:
    values = [None if row is None else row.texts[text].divergence for row in rows]
    known = [value for value in values if value is not None]
    least = min(known) if len(known) > 1 else None  # one alone is no lowest
    return ["–" if value is None else f"**{value:.4f}**" if value == least else f"{value:.4f}" for value in values]

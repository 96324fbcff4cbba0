"""What allocation and rounding give each: our types with their rounding, and theirs with ours."""

from __future__ import annotations

from collections.abc import Iterator

from bench.frontier.plan import TYPES, llama_row, our_row
from bench.frontier.rows import FrontierReport
from bench.study.tables import markdown_table
from qpruner_core.sizes import format_bytes


def swaps(report: FrontierReport) -> Iterator[str]:
    """The section, if any of it was measured."""
    lines = []
    for model in report.amounts.models:
        rows = {row.name: row for row in report.rows if row.model == model and not row.failure}
        for kind in TYPES:
            theirs, ours = llama_row(kind), our_row(llama_row(kind))
            names = (theirs, f"llama-quantize, types of {ours}", f"ours, types of {theirs}", ours)
            if not all(name in rows for name in names):
                continue
            for text in rows[theirs].texts:
                found = [rows[name].texts[text].divergence for name in names]
                lines.append(
                    [model, f"{kind}, {format_bytes(rows[theirs].bytes)}", text, *(f"{one:.4f}" for one in found)]
                )
    if lines:
        head = [
            "model",
            "bytes of",
            "text",
            "their types, their rounding",
            "our types, their rounding",
            "their types, our rounding",
            "our types, our rounding",
        ]
        yield "## Types and rounding apart"
        yield markdown_table(head, lines)
        yield "KL by whose types the tensors have, and who rounds them; with types given, ours searches nothing."

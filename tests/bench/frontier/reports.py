"""A report of made-up figures, complete enough for claims, page and pictures."""

from __future__ import annotations

from bench.frontier.amounts import Amounts
from bench.frontier.cells import LLAMA, OURS
from bench.frontier.plan import COMPARED, llama_row, our_row
from bench.frontier.rows import Cost, Figures, FrontierReport, FrontierRow, SourceRow
from bench.study.machine import Machine

MODEL, TEXT = "SmolLM2-135M", "prose"
_SOURCE = SourceRow(
    model=MODEL, source="a file", bytes=400, weights=200, error_before=0.001, error_after=0.08, divergence=0.0
)


def row(name: str, group: str, divergence: float, *, size: int = 100, seconds: float = 10.0) -> FrontierRow:
    """A row with two windows around ``divergence``."""
    figures = Figures(perplexity=20.0, divergence=divergence, windows=[divergence * 0.9, divergence * 1.1])
    return FrontierRow(
        model=MODEL, name=name, maker="tool", group=group, settings="", bytes=size, texts={TEXT: figures},
        cost=Cost(cpu_seconds=seconds, wall_seconds=seconds, peak_bytes=10**9),
    )  # fmt: skip


def report(*, share: float, times: float) -> FrontierReport:
    """Ours has ``share`` of the KL of the others at ``times`` their seconds."""
    rows = [row("dense", "dense", 0.0, size=400)]
    for place, kind in enumerate(COMPARED):
        size = 100 + 20 * place
        rows.append(row(llama_row(kind), LLAMA, 0.2 / (1 + place), size=size))
        own = row(our_row(llama_row(kind)), OURS, share * 0.2 / (1 + place), size=size, seconds=10 * times)
        rows.append(own)
    rows.append(row("AutoRound q4_k_m", "AutoRound GGUF", 0.05, size=140))
    rows.append(row("GPTQ W4A16 g64", "llm-compressor GPTQ", 0.2, size=150))
    rows.append(row(our_row("GPTQ W4A16 g64"), f"{OURS}, compressed-tensors", 0.2 * share, size=149))
    rows.append(row("ours, 10% pruned at the least bytes", "ours, 10% pruned", 0.5, size=90))
    rows.append(
        row("AWQ W4A16 g64", "llm-compressor AWQ", 0.0).model_copy(update={"texts": {}, "failure": "no memory"})
    )
    return FrontierReport(
        amounts=Amounts(models=(MODEL,)),
        machine=Machine(machine="a machine", threads=1, versions="Python", date="2026-01-31"),
        calibration="c4",
        sources=[_SOURCE],
        rows=rows,
    )

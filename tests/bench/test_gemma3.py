"""The page of bench/gemma3.py says what was measured."""

from __future__ import annotations

from bench.gemma3 import render
from bench.study.memory import PhasePeak
from qpruner_core.report import CompressionReport, Measurement


def test_the_page_has_a_row_for_every_variant_and_stage() -> None:
    rows = [
        Measurement(variant="dense", parameters=2, bytes=536_000_000, perplexity=20.0, tokens_per_second=9.0),
        Measurement(variant="final", parameters=1, bytes=239_900_000, perplexity=25.5, tokens_per_second=3.25),
    ]
    report = CompressionReport(
        model="m.gguf", revision=None, dataset="text", memory_budget=240_000_000, seed=0, prune_ratio=0.2, groups=[],
        precisions=[], widths=[], predicted_bytes=239_900_000, measurements=rows, stage_seconds={},
        warnings=[], files=[],
    )  # fmt: skip
    peaks = [PhasePeak(phase="prune", resident=1_300_000_000, anonymous=-1, seconds=61.0)]
    page = render(report, peaks, 600.0, "m.gguf")
    assert "| final | 239.9 MB | 45% | 25.50 | 3.2 |" in page
    assert "| prune | 61 s | 1.3 GB | 0 B |" in page
    assert "10 minutes" in page

"""Rows of the benchmark with figures that are easy to check by hand."""

from __future__ import annotations

from collections.abc import Sequence

from bench.paper.amounts import Amounts
from bench.paper.rows import MemoryRow, PaperReport, PaperRow, SearchRow, TrialPoint, TuningRow
from bench.study.machine import Machine
from bench.study.memory import PhasePeak

TEXT = "prose"
AMOUNTS = Amounts(ratios=(0.2,), seeds=2)


def peak(resident: int) -> PhasePeak:
    return PhasePeak(phase="recovery", resident=resident, anonymous=resident, seconds=1.0)


def row(
    method: str, losses: Sequence[float] = (3.0, 4.0), *, seed: int = 0, size: int = 1000, ratio: float = 0.2,
    accuracy: float = 0.5,
) -> PaperRow:  # fmt: skip
    task = {"acc": accuracy, "acc_stderr": 0.04, "acc_norm": accuracy, "acc_norm_stderr": 0.04}
    return PaperRow(
        method=method, config="", ratio=ratio, seed=seed, removed=ratio, budget=size, bytes=size,
        groups=["layers.0", "layers.1", "embeddings"], layers=[0, 1, None], group_bytes=[4, 8, 8],
        precisions=["nf4", "int8", "int8"],
        seconds={"finetune": 10.0}, search_seconds=5.0,
        validation=[(0, 4.0), (10, 3.0)], window_losses={TEXT: list(losses)},
        measures={TEXT: {"perplexity": 2.0 + seed}, "PIQA": task, "HellaSwag": task, "BoolQ": task},
    )  # fmt: skip


def memory(method: str, *, kept: int, recomputed: int, ratio: float = 0.2) -> MemoryRow:
    return MemoryRow(
        name=method, config="", method=method, ratio=ratio, kept=peak(kept), recomputed=peak(recomputed)
    )  # fmt: skip


def search(name: str, found: Sequence[tuple[float, float, float]], objective: str = "divergence") -> SearchRow:
    """``found``: (second, loss, perplexity) of every trial, each better than the one before."""
    trials = [
        TrialPoint(origin="random", precisions=("nf4",), bytes=1, loss=loss, stopped_early=False, second=second)
        for second, loss, _ in found
    ]
    best = [(index, perplexity) for index, (_, _, perplexity) in enumerate(found)]
    return SearchRow(
        name=name, config="", objective=objective, scoring=1.0, seconds=found[-1][0], trials=trials, best=best
    )


def report(
    rows: Sequence[PaperRow], searches: Sequence[SearchRow] = (), memory: Sequence[MemoryRow] = (),
) -> PaperReport:  # fmt: skip
    return PaperReport(
        model="tiny", amounts=AMOUNTS, text_name="c4", learning_rate=4e-4,
        machine=Machine(machine="a machine", threads=1, versions="Python 3", date="2026-01-31"),
        dense=row("dense", ratio=0.0), rows=list(rows), memory=list(memory), searches=list(searches),
        tuning=[TuningRow(name="tuning", config="", learning_rate=4e-4, validation=[(0, 4.0), (10, 3.5)])],
    )  # fmt: skip

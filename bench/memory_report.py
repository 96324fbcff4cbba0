"""The figures of :mod:`bench.memory` as a table and as a page."""

from __future__ import annotations

import argparse

from pydantic import BaseModel

from bench.machine import machine, today, versions
from bench.resident_memory import PhasePeak

_PAGE = """\
# Memory of pruning

Written by `bench/memory.py` on {date}.

- Machine: {machine}; {threads} threads
- Versions: {versions}
- Model: Llama with random weights, {shape}; {parameters:.2f} billion parameters, {weights:.2f} GB in 16 bits, in one
  safetensors file
- Work: load, score ({calibration}, one at a time), prune {ratio:.0%}, write; ours with the product's default settings
  (second-order importance, weights fitted anew), the straightforward way with first-order importance

Every way runs in a process of its own. Figures are above that process with torch and transformers imported.

- **resident**: the kernel's high-water mark of the process (VmHWM). It counts the pages of mapped files, which stock
  transformers loads a checkpoint of the same dtype as; the kernel may drop those when memory gets short.
- **anonymous**: what the kernel cannot drop (RssAnon), sampled every 2 ms.
- **above the weights**: peak less the bytes of the 16-bit weights, in percent of these. It is the larger of the two
  that counts: resident.

{table}

The straightforward way loads with stock `from_pretrained`, keeps the gradients of all parameters, and slices beside the
dense model. In float32 it is what LLM-Pruner's README runs. Ours reads tensor by tensor, computes the activations of
one layer at a time again in the backward pass, reduces each gradient as soon as it exists, holds the second moments
that weights are fitted with for a few modules at a time, and frees each layer as it is cut. Seconds depend on what else
the machine does.

## On a GPU
`python -m bench.gpu` measures the same at the shape of a 7B Llama, and with `--pipeline` every stage of a run. Its
figures are still to be measured: no GPU was at hand when this page was written.
"""
TITLE = _PAGE.partition("\n")[0]


class WayPeaks(BaseModel):
    """The peaks of one way, phase by phase."""

    way: str
    phases: list[PhasePeak]


class Report(BaseModel):
    """All figures of a run; sizes in bytes."""

    date: str
    machine: str
    versions: str
    threads: int
    shape: str
    calibration: str
    ratio: float
    parameters: int
    weights: int
    ways: list[WayPeaks]

    @classmethod
    def of(
        cls, *, parameters: int, weights: int, shape: argparse.Namespace, ways: list[WayPeaks], threads: int
    ) -> Report:
        """The report of a run with the command line ``shape``."""
        return cls(
            date=today(), machine=machine(), versions=versions(), threads=threads,
            shape=f"hidden {shape.hidden}, {shape.layers} layers, intermediate {shape.intermediate}, "
            f"{shape.heads} heads, vocabulary {shape.vocabulary}",
            calibration=f"{shape.sequences} sequences of {shape.length} tokens",
            ratio=shape.ratio, parameters=parameters, weights=weights, ways=ways,
        )  # fmt: skip


def table(report: Report) -> str:
    """The figures as a table in markdown, one row a phase and one for the whole of each way."""
    rows = [
        "| way | phase | resident, GB | above the weights | anonymous, GB | above the weights | seconds |",
        "|---|---|---:|---:|---:|---:|---:|",
    ]
    for way in report.ways:
        whole = PhasePeak(
            phase="**all**",
            resident=max(phase.resident for phase in way.phases),
            anonymous=max(phase.anonymous for phase in way.phases),
            seconds=sum(phase.seconds for phase in way.phases),
        )
        rows += [_row(way.way, phase, report.weights) for phase in [*way.phases, whole]]
    return "\n".join(rows)


def _row(way: str, peak: PhasePeak, weights: int) -> str:
    def sizes(peak_bytes: int) -> str:
        return f"{peak_bytes / 1e9:.2f} | {(peak_bytes - weights) / weights:+.1%}"

    return f"| {way} | {peak.phase} | {sizes(peak.resident)} | {sizes(peak.anonymous)} | {peak.seconds:.0f} |"


def markdown(report: Report) -> str:
    """The page of the figures."""
    return _PAGE.format(
        date=report.date, machine=report.machine, threads=report.threads, versions=report.versions, shape=report.shape,
        parameters=report.parameters / 1e9, weights=report.weights / 1e9, calibration=report.calibration,
        ratio=report.ratio, table=table(report),
    )  # fmt: skip

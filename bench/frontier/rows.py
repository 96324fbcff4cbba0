"""The figures of the benchmark, as they are kept in docs/benchmarks/frontier.json."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel

from bench.frontier.amounts import Amounts
from bench.study.machine import Machine

Kind = Literal["gguf", "compressed-tensors", "transformers"]
"""How a checkpoint is read back; ``transformers``: as an ordinary 16-bit one, whose bytes its maker counted."""


class Cost(BaseModel):
    """CPU-seconds of the process and all that it started, seconds by the clock on a machine that may be shared, and the
    peak of resident memory of its largest process."""

    cpu_seconds: float = 0.0
    wall_seconds: float = 0.0
    peak_bytes: int = 0

    def __add__(self, other: Cost) -> Cost:
        return Cost(
            cpu_seconds=self.cpu_seconds + other.cpu_seconds,
            wall_seconds=self.wall_seconds + other.wall_seconds,
            peak_bytes=max(self.peak_bytes, other.peak_bytes),
        )


class Figures(BaseModel):
    """On one text: ``divergence`` is the mean KL from the dense model in nats per token, ``error`` its standard error
    over windows, ``windows`` that of each, ``late`` that of the second half of each window, which is what
    ``llama-perplexity`` measures."""

    perplexity: float
    divergence: float = 0.0
    error: float = 0.0
    windows: list[float] = []
    late: float = 0.0
    top1: float = 1.0


class Measured(BaseModel):
    """What the evaluation of a checkpoint gives; ``types``: of the tensors of a GGUF file, by their names there."""

    bytes: int
    texts: dict[str, Figures]
    types: dict[str, str] = {}


class FrontierRow(BaseModel):
    """A checkpoint, how it was made and what it can do.

    ``maker``: the tool. ``group``: what is drawn as one line. ``allowed``: bytes that it was asked for, those of the
    row ``against``. ``cost``: from the dense checkpoint to the file, the importance matrix included; evaluation is not.
    ``failure``: why there are no figures.
    """

    model: str
    name: str
    maker: str
    group: str
    settings: str
    allowed: int | None = None
    against: str = ""
    bytes: int = 0
    cost: Cost = Cost()
    texts: dict[str, Figures] = {}
    types: dict[str, str] = {}
    failure: str = ""


class ImatrixRow(BaseModel):
    """What llama.cpp's importance matrix took."""

    cost: Cost


class CheckRow(BaseModel):
    """KL of one file on one text by ``llama-perplexity --kl-divergence`` and by ours on the same tokens."""

    model: str
    file: str
    text: str
    tokens: int
    theirs: float
    theirs_error: float
    ours: float


class SourceRow(BaseModel):
    """A model off the grid: bytes in 16 bits, weights, the mean relative error of rounding its linear modules to Q4_1
    before and after, and KL between the two models (in float32 they are one function)."""

    model: str
    source: str
    bytes: int
    weights: int
    error_before: float
    error_after: float
    divergence: float


class FrontierReport(BaseModel):
    """All that was measured. ``computed``: type of activations and logits in which KL was measured; ``note``: what else
    must be known of how the rows came about."""

    amounts: Amounts
    machine: Machine
    calibration: str
    sources: list[SourceRow]
    rows: list[FrontierRow]
    checks: list[CheckRow] = []
    computed: str = "bfloat16"
    note: str = ""

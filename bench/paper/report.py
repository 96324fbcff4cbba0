"""All that the benchmark found, as it is kept in docs/benchmarks/paper.json."""

from __future__ import annotations

from pydantic import BaseModel

from bench.paper.amounts import Amounts
from bench.paper.rows import MemoryRow, PaperRow, SearchRow, SpeedRow, TuningRow
from bench.report import Machine


class PaperReport(BaseModel):
    """``text_name``: what all methods learned from and were calibrated on. ``learning_rate``: of all recoveries.
    ``workers``: processes that measured beside each other. ``note``: what else must be known of how the rows came
    about."""

    model: str
    amounts: Amounts
    text_name: str
    learning_rate: float
    machine: Machine
    workers: int = 1
    dense: PaperRow
    rows: list[PaperRow]
    memory: list[MemoryRow] = []
    tuning: list[TuningRow] = []
    searches: list[SearchRow] = []
    speed: SpeedRow | None = None
    note: str = ""

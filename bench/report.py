"""All that the pruning benchmark found, as it is kept in docs/benchmarks/prune.json."""

from __future__ import annotations

import torch
from pydantic import BaseModel

from bench.machine import machine, today, versions
from bench.rows import Row


class Limits(BaseModel):
    """How much is measured: ``tokens`` of each text, ``examples`` of each task (at most), and what calibrates."""

    tokens: int
    examples: int
    calibration_text: str
    calibration_sequences: int
    calibration_length: int
    baseline_text: str


class Machine(BaseModel):
    """Where and when the rows were measured; ``threads``: those that torch computed on."""

    machine: str
    threads: int
    versions: str
    date: str


class Report(BaseModel):
    """``default``: the recipe that is the product's default. ``correlations``: a markdown table, or empty.
    ``note``: what else must be known of how the rows came about."""

    model: str
    default: str
    limits: Limits
    machine: Machine
    rows: list[Row]
    correlations: str = ""
    note: str = ""


def this_machine() -> Machine:
    """The machine that this runs on, today."""
    return Machine(machine=machine(), threads=torch.get_num_threads(), versions=versions(), date=today())

"""What a study ran on."""

from __future__ import annotations

import platform
from datetime import UTC, datetime
from importlib.metadata import version

import psutil
import torch
from pydantic import BaseModel

from qpruner_core.compute.processor import processor_name
from qpruner_core.threads import usable_cpus


class Machine(BaseModel):
    """Where and when rows were measured; ``threads``: those that torch computed on; ``date``: as 2026-01-31."""

    machine: str
    threads: int
    versions: str
    date: str


def this_machine() -> Machine:
    """The machine that this runs on, today."""
    count = usable_cpus()
    cores = "1 core" if count == 1 else f"{count} cores"
    memory = psutil.virtual_memory().total / 2**30
    processor = processor_name(torch.device("cpu"))
    packages = ("torch", "transformers", "safetensors", "qpruner")
    return Machine(
        machine=f"{processor}, {cores}, {memory:.0f} GiB of memory, {platform.system()}",
        threads=torch.get_num_threads(),
        versions=", ".join([f"Python {platform.python_version()}", *(f"{name} {version(name)}" for name in packages)]),
        date=datetime.now(UTC).strftime("%Y-%m-%d"),
    )


def made_by(command: str) -> str:
    """The sentence with which a page says how, when and where it was made."""
    here = this_machine()
    return f"Made by `{command}` on {here.date}: {here.machine}; {here.versions}."

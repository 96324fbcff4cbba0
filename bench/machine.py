"""What a benchmark ran on."""

from __future__ import annotations

import platform
from datetime import UTC, datetime
from importlib.metadata import version

import psutil
import torch

from qpruner_core.compute.processor import processor_name
from qpruner_core.threads import usable_cpus


def machine() -> str:
    """Processor, cores and memory of this machine, in words."""
    memory = psutil.virtual_memory().total / 2**30
    return (
        f"{processor_name(torch.device('cpu'))}, {usable_cpus()} cores, {memory:.0f} GiB of memory, {platform.system()}"
    )


def versions() -> str:
    """Versions of Python and of the packages that do the computing."""
    packages = ("torch", "transformers", "safetensors", "qpruner")
    return ", ".join([f"Python {platform.python_version()}", *(f"{name} {version(name)}" for name in packages)])


def today() -> str:
    """The date, as 2026-01-31."""
    return datetime.now(UTC).strftime("%Y-%m-%d")

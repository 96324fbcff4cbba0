"""What a benchmark ran on."""

from __future__ import annotations

import platform
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import psutil

from qpruner_core.threads import usable_cpus

_CPU_INFO = Path("/proc/cpuinfo")


def machine() -> str:
    """Processor, cores and memory of this machine, in words."""
    memory = psutil.virtual_memory().total / 2**30
    return f"{_processor()}, {usable_cpus()} cores, {memory:.0f} GiB of memory, {platform.system()}"


def versions() -> str:
    """Versions of Python and of the packages that do the computing."""
    packages = ("torch", "transformers", "safetensors", "qpruner")
    return ", ".join([f"Python {platform.python_version()}", *(f"{name} {version(name)}" for name in packages)])


def today() -> str:
    """The date, as 2026-01-31."""
    return datetime.now(UTC).strftime("%Y-%m-%d")


def _processor() -> str:
    if _CPU_INFO.is_file():
        for line in _CPU_INFO.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()

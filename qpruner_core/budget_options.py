"""Command line options of the memory budget: bytes of weights, or a device."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from qpruner_core.device_fit.config import CacheType
from qpruner_core.sizes import parse_bytes

Budget = Annotated[
    str | None,
    typer.Option(
        "--memory-budget", help='Bytes of the loaded model\'s weights: "130MB", "6GiB". Alternative: --fit-memory.'
    ),
]
FitMemory = Annotated[
    str | None,
    typer.Option(help='Memory of the device for model, KV cache and engine together: "24GB".'),
]
Context = Annotated[int | None, typer.Option(help="With --fit-memory: tokens of the longest sequence.")]
Sequences = Annotated[int | None, typer.Option(help="With --fit-memory: sequences served at the same time.")]
CacheTypes = Annotated[CacheType | None, typer.Option(help="With --fit-memory: type of the KV cache.")]
Device = Annotated[str | None, typer.Option("--fit-device", hidden=True, help="Former name of --runs-on.")]


def budget_settings(
    memory_budget: str | None, fit_memory: str | None, context: int | None, sequences: int | None,
    cache_type: CacheType | None, fit_device: str | None,
) -> dict[str, Any]:  # fmt: skip
    """Budget settings by their dotted paths; ``None``: not given."""
    return {
        "memory_budget": None if memory_budget is None else parse_bytes(memory_budget),
        "fit.memory": None if fit_memory is None else parse_bytes(fit_memory, "fit.memory"),
        "fit.context": context, "fit.sequences": sequences, "fit.cache_type": cache_type, "fit.device": fit_device,
    }  # fmt: skip

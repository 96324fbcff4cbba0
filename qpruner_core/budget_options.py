"""Options of the command line that say how many bytes there are: of weights, or of a device in use."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from qpruner_core.device_fit.config import CacheType
from qpruner_core.sizes import parse_bytes

Budget = Annotated[
    str | None,
    typer.Option(
        "--memory-budget", help='Bytes of the loaded model\'s weights: "130MB", "6GiB". Or give --fit-memory.'
    ),
]
FitMemory = Annotated[
    str | None,
    typer.Option(help='Memory of the device that model, KV cache and engine have to fit into: "24GB".'),
]
Context = Annotated[int | None, typer.Option(help="With --fit-memory: tokens of the longest sequence.")]
Sequences = Annotated[int | None, typer.Option(help="With --fit-memory: sequences served at the same time.")]
CacheTypes = Annotated[CacheType | None, typer.Option(help="With --fit-memory: type of the KV cache.")]
Device = Annotated[str | None, typer.Option("--fit-device", hidden=True, help="An earlier name of --runs-on.")]


def budget_settings(
    memory_budget: str | None, fit_memory: str | None, context: int | None, sequences: int | None,
    cache_type: CacheType | None, fit_device: str | None,
) -> dict[str, Any]:  # fmt: skip
    """The settings of a budget, by their paths; ``None``: not given."""
    return {
        "memory_budget": None if memory_budget is None else parse_bytes(memory_budget),
        "fit.memory": None if fit_memory is None else parse_bytes(fit_memory, "fit.memory"),
        "fit.context": context, "fit.sequences": sequences, "fit.cache_type": cache_type, "fit.device": fit_device,
    }  # fmt: skip

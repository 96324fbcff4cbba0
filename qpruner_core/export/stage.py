"""Stage 6: checkpoints for engines."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from qpruner_core.formats.registry import load_format
from qpruner_core.garbage import free_garbage
from qpruner_core.stage import StageContext


def run(context: StageContext, output: Path) -> dict[str, Any]:
    """Write the requested formats to ``output``, each in its own place."""
    settings = context.config.export
    for index, name in enumerate(settings.formats):
        context.progress(index / len(settings.formats), f"writing {name}")
        load_format(name).write(context, output, settings.max_shard_size)
        free_garbage()
    return {"formats": list(settings.formats)}

"""Compress a language model to a memory budget. Usable alone, without the service around it."""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from qpruner_core.config import CompressionConfig, parse_config
from qpruner_core.errors import QPrunerError, UserError
from qpruner_core.events import CancelToken
from qpruner_core.garbage import collector_paused
from qpruner_core.report import CompressionReport, Estimate
from qpruner_core.source_policy import SourcePolicy

if TYPE_CHECKING:
    from qpruner_core.another_target import export_run
    from qpruner_core.functions import best_allocation, evaluate_checkpoint, front, generate
    from qpruner_core.loading import load_compressed
    from qpruner_core.models.families import register_families
    from qpruner_core.pipeline import compress
    from qpruner_core.planning import check, estimate

__version__ = version("qpruner")

__all__ = [
    "CancelToken",
    "CompressionConfig",
    "CompressionReport",
    "Estimate",
    "QPrunerError",
    "SourcePolicy",
    "UserError",
    "best_allocation",
    "check",
    "compress",
    "estimate",
    "evaluate_checkpoint",
    "export_run",
    "front",
    "generate",
    "load_compressed",
    "parse_config",
    "register_families",
]

# These import torch, which takes seconds. A worker's supervisor never loads it; the API loads it after it has started.
_LOADED_WHEN_USED = {
    "best_allocation": "qpruner_core.functions",
    "check": "qpruner_core.planning",
    "compress": "qpruner_core.pipeline",
    "estimate": "qpruner_core.planning",
    "evaluate_checkpoint": "qpruner_core.functions",
    "export_run": "qpruner_core.another_target",
    "front": "qpruner_core.functions",
    "generate": "qpruner_core.functions",
    "load_compressed": "qpruner_core.loading",
    "register_families": "qpruner_core.models.families",
}


def __getattr__(name: str) -> Any:
    if name not in _LOADED_WHEN_USED:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    with collector_paused():
        return getattr(import_module(_LOADED_WHEN_USED[name]), name)

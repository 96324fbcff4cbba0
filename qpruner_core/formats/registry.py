"""Formats by name, imported on first use: their libraries take longer to import than torch."""

from __future__ import annotations

from importlib import import_module

from qpruner_core.formats.base import ExportFormat
from qpruner_core.formats.declarations import declared


def load_format(name: str) -> ExportFormat:
    """The format called ``name``. Raises ``KeyError`` if there is none."""
    found: ExportFormat = import_module(f"qpruner_core.formats.{declared(name).name}").FORMAT
    return found

"""Compress a language model into a number of bytes; usable alone, without the service around it."""

from qpruner_core.checkpoint import load_compressed
from qpruner_core.config import CompressionConfig, parse_config
from qpruner_core.errors import QPrunerError, UserError
from qpruner_core.events import CancelToken
from qpruner_core.pipeline import compress
from qpruner_core.planning import check, estimate
from qpruner_core.report import CompressionReport, Estimate
from qpruner_core.source_policy import SourcePolicy

__all__ = [
    "CancelToken",
    "CompressionConfig",
    "CompressionReport",
    "Estimate",
    "QPrunerError",
    "SourcePolicy",
    "UserError",
    "check",
    "compress",
    "estimate",
    "load_compressed",
    "parse_config",
]

"""The child process of a job: the real pipeline for the model in the folder ``model``, else the scripted one.

python bench/chaos/child.py FOLDER
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import qpruner_core
import worker.child
from qpruner_core import CompressionConfig, CompressionReport

REAL = "model"
SCRIPTED = "scripted"


def compress(config: CompressionConfig, output: str | Path, **given: Any) -> CompressionReport:
    """As :func:`qpruner_core.compress`."""
    if Path(config.model).name == SCRIPTED:
        from tests.worker import scripted_child  # reads the command line of a child

        return scripted_child.compress(config, Path(output), **given)
    from qpruner_core.pipeline import compress as real

    return real(config, output, **given)


if __name__ == "__main__":
    qpruner_core.compress = compress
    sys.exit(worker.child.main())

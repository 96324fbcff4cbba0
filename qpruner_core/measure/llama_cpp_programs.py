"""Location of llama.cpp, for code that must not import torch."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

DIRECTORY = "QPRUNER_LLAMA_CPP"
"""Environment variable with the directory of llama.cpp's programs, or with the parent of a ``bin`` that has them."""


def llama_cpp_program(name: str) -> Path | None:
    """Path of one of llama.cpp's programs: in the configured directory, else in ``PATH``; ``None``: not found."""
    named = os.environ.get(DIRECTORY)
    path = os.pathsep.join([named, str(Path(named, "bin"))]) if named else None
    found = shutil.which(name, path=path)
    return None if found is None else Path(found)

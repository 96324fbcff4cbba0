"""Where llama.cpp is installed, for code that must not import torch."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

DIRECTORY = "QPRUNER_LLAMA_CPP"
"""The environment variable that names the directory of llama.cpp's programs, or the one whose ``bin`` has them."""


def llama_cpp_program(name: str) -> Path | None:
    """The path of one of llama.cpp's programs: from the directory that is set, else from ``PATH``; ``None``: none."""
    named = os.environ.get(DIRECTORY)
    path = os.pathsep.join([named, str(Path(named, "bin"))]) if named else None
    found = shutil.which(name, path=path)
    return None if found is None else Path(found)

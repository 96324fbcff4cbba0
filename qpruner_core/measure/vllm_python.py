"""Location of a Python with vLLM, for code that must not import torch."""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path

PYTHON = "QPRUNER_VLLM_PYTHON"
"""Environment variable with the Python of an environment that has vLLM."""


def vllm_python() -> Path | None:
    """The configured Python, else this one if vLLM is installed in it; ``None``: neither.

    vLLM requires other versions of transformers than this package, so it usually has its own environment.
    """
    if named := os.environ.get(PYTHON):
        return Path(named)
    found = importlib.util.find_spec("vllm")
    return None if found is None or found.origin is None else Path(sys.executable)

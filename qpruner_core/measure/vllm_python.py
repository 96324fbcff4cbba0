"""Which Python has vLLM, for code that must not import torch."""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path

PYTHON = "QPRUNER_VLLM_PYTHON"
"""The environment variable that names the Python of an environment with vLLM."""


def vllm_python() -> Path | None:
    """The Python that is set, else this one if vLLM is installed in it; ``None``: neither.

    vLLM wants other versions of transformers than this package, so that it mostly has an environment of its own.
    """
    if named := os.environ.get(PYTHON):
        return Path(named)
    found = importlib.util.find_spec("vllm")
    return None if found is None or found.origin is None else Path(sys.executable)

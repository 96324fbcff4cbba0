"""Versions of the software that computes."""

from __future__ import annotations

import platform
from importlib.metadata import version

_PACKAGES = (
    "qpruner", "torch", "transformers", "tokenizers", "peft", "accelerate", "bitsandbytes", "safetensors",
    "scikit-optimize", "scikit-learn", "scipy", "numpy",
)  # fmt: skip


def recorded_versions() -> dict[str, str]:
    """Versions of everything that a result's bytes may depend on."""
    return {"python": platform.python_version(), **{name: version(name) for name in _PACKAGES}}

"""The environments that rivals run in: their pins clash with each other's and with ours."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

_TORCH = "torch==2.13.0"
REQUIREMENTS: Mapping[str, tuple[str, ...]] = {
    "llm-compressor": (_TORCH, "llmcompressor==0.14.0.1"),
    "auto-round": (_TORCH, "auto-round==0.16.1", "gguf", "sentencepiece", "protobuf"),
    "hqq": (_TORCH, "hqq==0.2.8.post1", "transformers==5.23.0", "accelerate"),
    "gptqmodel": (
        _TORCH,
        "setuptools",
        "wheel",
        "--no-build-isolation",
        "gptqmodel==7.0.0",
        "transformers==5.4.0",
        "requests",
    ),
}
"""What pip is given, each in an environment of its own."""


def pythons(folder: Path) -> dict[str, Path]:
    """The Python of each environment below ``folder``; those that are missing are made by pip."""
    found = {}
    for name, requirements in REQUIREMENTS.items():
        python = folder / name / "bin" / "python"
        if not python.is_file():
            print(f"Installing {' '.join(requirements)} into {folder / name}", flush=True)
            subprocess.run([sys.executable, "-m", "venv", str(folder / name)], check=True)  # noqa: S603 - stands above
            for wanted in (requirements[:1], requirements[1:3], requirements):  # GPTQModel's build asks for torch
                subprocess.run([str(python), "-m", "pip", "install", "--quiet", *wanted], check=False)  # noqa: S603
        found[name] = python
    return found

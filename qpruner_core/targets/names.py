"""Names of the targets, for code that must not import torch."""

from __future__ import annotations

from typing import Literal

TargetName = Literal["gguf", "compressed-tensors", "bitsandbytes"]

PRECISIONS: dict[TargetName, tuple[str, ...]] = {
    "bitsandbytes": ("nf4", "int8", "bf16"),
}
"""Names of the precisions of each target, by rising size."""

"""Names of the targets, for code that must not import torch."""

from __future__ import annotations

from typing import Literal

TargetName = Literal["gguf", "compressed-tensors", "bitsandbytes"]

PRECISIONS: dict[TargetName, tuple[str, ...]] = {
    "gguf": (
        "iq2_xs", "iq2_s", "q2_k", "iq3_xxs", "q3_k", "iq3_s", "iq4_xs", "iq4_nl", "q4_0", "q4_k", "q4_1", "q5_0",
        "q5_k", "q5_1", "q6_k", "q8_0", "f16", "bf16",
    ),
    "bitsandbytes": ("nf4", "int8", "bf16"),
}  # fmt: skip
"""Names of the precisions of each target, by rising size."""

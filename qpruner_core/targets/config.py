"""Names of the targets, for code that must not import torch."""

from __future__ import annotations

from typing import Literal

TargetName = Literal["gguf", "compressed-tensors", "bitsandbytes"]

DEFAULT_TARGET: TargetName = "compressed-tensors"
"""Of runs that name none, but for those with a preset of the paper."""

PRECISIONS: dict[TargetName, tuple[str, ...]] = {
    "gguf": (
        "iq2_xs", "iq2_s", "q2_k", "iq3_xxs", "q3_k", "iq3_s", "iq4_xs", "iq4_nl", "q4_0", "q4_k", "q4_1", "q5_0",
        "q5_k", "q5_1", "q6_k", "q8_0", "f16", "bf16",
    ),
    "compressed-tensors": (
        "int2_g64", "int3_g64", "int4_g128", "int4_g64", "int4_g32", "int5_g64", "int6_g64", "int7_g64", "fp8",
        "int8_channel", "int8_w8a8", "int8_g128", "bf16",
    ),
    "bitsandbytes": ("nf4", "int8", "bf16"),
}  # fmt: skip
"""Names of the precisions of each target, by rising size."""

HUMMING = frozenset({"int2_g64", "int3_g64", "int5_g64", "int6_g64", "int7_g64"})
"""Those that vLLM has but one kernel for: Humming, on NVIDIA GPUs from sm75, with its package installed."""

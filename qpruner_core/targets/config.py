"""Names of the targets, for code that must not import torch."""

from __future__ import annotations

from typing import Literal, get_args

from qpruner_core import precision_names

TargetName = Literal["gguf", "compressed-tensors", "bitsandbytes"]

DEFAULT_TARGET: TargetName = "compressed-tensors"
"""Of runs that name none, but for those with a preset of the paper."""

PRECISIONS: dict[TargetName, tuple[str, ...]] = {
    target: tuple(
        sorted(
            (name for name, declared in precision_names.PRECISIONS.items() if target in declared.targets),
            key=precision_names.size_order,
        )
    )
    for target in get_args(TargetName)
}
"""Names of the precisions of each target, by rising size."""

HUMMING = frozenset({"int2_g64", "int3_g64", "int5_g64", "int6_g64", "int7_g64"})
"""Those that vLLM has but one kernel for: Humming, on NVIDIA GPUs from sm75, with its package installed."""

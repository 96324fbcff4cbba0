"""Names of the targets, for code that must not import torch."""

from __future__ import annotations

from typing import Literal, get_args

from qpruner_core import precision_names

TargetName = Literal["gguf", "compressed-tensors", "bitsandbytes"]

RunsOn = Literal["gpu", "gpu+humming", "cpu"]
"""Hardware of the engine: a GPU, an NVIDIA GPU from sm75 with the kernels of the package Humming, a CPU."""

DEFAULT_RUNS_ON: RunsOn = "gpu"

DEFAULT_TARGET: TargetName = "compressed-tensors"
"""Target of runs that name none, except with a preset of the paper."""

PRECISIONS: dict[TargetName, tuple[str, ...]] = {
    target: tuple(
        sorted(
            (name for name, declared in precision_names.PRECISIONS.items() if target in declared.targets),
            key=precision_names.size_order,
        )
    )
    for target in get_args(TargetName)
}
"""Names of the precisions of each target, by ascending size."""

_HUMMING_ALONE = frozenset({"int2_g64", "int3_g64", "int5_g64", "int6_g64", "int7_g64"})
"""Precisions for which Humming has vLLM's only kernel."""
_ON_A_CPU = frozenset({"int4_g128", "int4_g64", "int4_g32", "int8_w8a8", "fp8", "bf16"})
"""Precisions of compressed-tensors for which vLLM 0.32 has a CPU kernel, tested; 4 bits need AVX-512."""


def has_kernel(target: TargetName, runs_on: RunsOn, precision: str) -> bool:
    """Whether the engine of ``target`` has a kernel for ``precision``, one of its own, there.

    llama.cpp and bitsandbytes have all of theirs on every processor.
    """
    if target != "compressed-tensors":
        return True
    if runs_on == "cpu":
        return precision in _ON_A_CPU
    return runs_on == "gpu+humming" or precision not in _HUMMING_ALONE


def without_kernel(runs_on: RunsOn, precision: str) -> str:
    """Reason and remedy for a run for ``runs_on`` with a ``precision`` for which :func:`has_kernel` is false."""
    other: RunsOn = "gpu+humming" if precision in _HUMMING_ALONE else "gpu"
    lack = "no kernel" if runs_on == "cpu" else "only the Humming kernels"
    where = " on a CPU" if runs_on == "cpu" else ""
    return f"vLLM has {lack} for {precision}{where}: leave it out, or set runs_on to {other!r} if the result runs there"

"""Support of this format in vLLM, SGLang and transformers: families, modules that share a precision, fallbacks."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from torch import nn
from transformers import PretrainedConfig

from qpruner_core.models.families import Family, find_family
from qpruner_core.precisions.compressed_tensors import QUANTIZED

UNQUANTIZED = "bf16"
"""The name of 16 bits: modules in ``ignore``, and the last fallback of every precision."""

_FUSED = (
    ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
    ("mlp.gate_proj", "mlp.up_proj"),
)
"""Paths in a layer of modules that vLLM fuses. It uses the precision of the first for all of them, and rejects them if
only some are in ``ignore``."""

_REFUSED = {
    "falcon": (
        "transformers reads the weight of every linear module of Falcon while loading, which packed ones do not have"
    ),
    "gpt2": (
        "the linear modules of GPT-2 are Conv1D with transposed weights: neither the library "
        "compressed-tensors nor vLLM quantizes them"
    ),
    "qwen3_moe": "vLLM has kernels of its own for quantized experts, which this release does not write for",
}

_SMALLER: Mapping[str, str] = {
    "int4_g128": "int4_g64",
    "int4_g64": "int4_g32",
    "int8_g128": "int8_channel",
}
"""Fallback of a precision whose groups do not fit, with equal bits. Otherwise it is 16 bits."""


def supports(config: PretrainedConfig) -> str | None:
    """Reason why no model of ``config`` can be written in this format; ``None`` if it can."""
    return _REFUSED.get(find_family(config.model_type).model_type)


def fused_paths(family: Family) -> list[tuple[str, ...]]:
    """The paths in a layer of ``family`` that share a precision, because vLLM fuses their modules."""
    return [paths for paths in _FUSED if all(path in family.linears for path in paths)]


def fused_with(module: str) -> str:
    """The full name of the first module that ``module`` is fused with in its layer, or its own."""
    for paths in _FUSED:
        for path in paths:
            if module.endswith(f".{path}"):
                return module.removesuffix(path) + paths[0]
    return module


def fused_modules(family: Family, layer: nn.Module, name: str) -> list[tuple[str, ...]]:
    """Full names of the modules that share a precision in ``layer``, whose own name is ``name``."""
    present = family.linear_paths(layer)
    groups = [tuple(path for path in paths if path in present) for paths in fused_paths(family)]
    return [tuple(f"{name}.{path}" for path in paths) for paths in groups if paths]


def torn_apart(groups: Iterable[Sequence[str]], precision: Mapping[str, str]) -> Sequence[str] | None:
    """The first of ``groups`` (of :func:`fused_modules`) whose modules differ in ``precision``, if any does."""
    return next((group for group in groups if len({precision.get(name, UNQUANTIZED) for name in group}) > 1), None)


def fitting(precision: str, shapes: Iterable[tuple[int, int]]) -> str:
    """``precision``, or its fallback if a weight of one of ``shapes`` (outputs, inputs) cannot have it.

    Fused modules are passed together, so that they stay alike.
    """
    wanted = list(shapes)
    while precision != UNQUANTIZED and not all(QUANTIZED[precision].accepts(*shape) for shape in wanted):
        precision = _SMALLER.get(precision, UNQUANTIZED)
    return precision

"""Names of the precisions, for code that must not import torch. The classes are in :mod:`qpruner_core.precisions`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class DeclaredPrecision:
    """``bits_per_weight``: nominal size, including constants of blocks. ``targets``: those whose engine supports it."""

    bits_per_weight: float
    targets: frozenset[str]


def _of(bits_per_weight: float, *targets: str) -> DeclaredPrecision:
    return DeclaredPrecision(bits_per_weight, frozenset(targets))


PRECISIONS: dict[str, DeclaredPrecision] = {
    "int2_g64": _of(2.25, "compressed-tensors"),
    "iq2_xs": _of(2.3125, "gguf"),
    "iq2_s": _of(2.5625, "gguf"),
    "q2_k": _of(2.625, "gguf"),
    "iq3_xxs": _of(3.0625, "gguf"),
    "int3_g64": _of(3.25, "compressed-tensors"),
    "iq3_s": _of(3.4375, "gguf"),
    "q3_k": _of(3.4375, "gguf"),
    "int4_g128": _of(4.125, "compressed-tensors"),
    "nf4": _of(4.127, "bitsandbytes"),
    "int4_g64": _of(4.25, "compressed-tensors"),
    "iq4_xs": _of(4.25, "gguf"),
    "int4_g32": _of(4.5, "compressed-tensors"),
    "iq4_nl": _of(4.5, "gguf"),
    "q4_0": _of(4.5, "gguf"),
    "q4_k": _of(4.5, "gguf"),
    "q4_1": _of(5.0, "gguf"),
    "int5_g64": _of(5.25, "compressed-tensors"),
    "q5_0": _of(5.5, "gguf"),
    "q5_k": _of(5.5, "gguf"),
    "q5_1": _of(6.0, "gguf"),
    "int6_g64": _of(6.25, "compressed-tensors"),
    "q6_k": _of(6.5625, "gguf"),
    "int7_g64": _of(7.25, "compressed-tensors"),
    "fp8": _of(8.0, "compressed-tensors"),
    "int8": _of(8.0, "bitsandbytes"),
    "int8_channel": _of(8.0, "compressed-tensors"),
    "int8_w8a8": _of(8.0, "compressed-tensors"),
    "int8_g128": _of(8.125, "compressed-tensors"),
    "q8_0": _of(8.5, "gguf"),
    "f16": _of(16.0, "gguf"),
    "bf16": _of(16.0, "gguf", "compressed-tensors", "bitsandbytes"),
}
"""Every precision by name, by ascending size (of NF4 with double quantization). A new one is one line here, and one
file or an object in one; see ``docs/architecture.md``."""

BITS_PER_WEIGHT: dict[str, float] = {name: declared.bits_per_weight for name, declared in PRECISIONS.items()}
"""Nominal size of each precision."""

UNQUANTIZED = "bf16"
"""The precision of the weights of a pruned model."""

_OF_BITS = {4: "nf4", 8: "int8", 16: "bf16"}


def size_order(name: str) -> tuple[float, str]:
    """Sort key: ascending size, then alphabetical."""
    return BITS_PER_WEIGHT[name], name


def precision_name(value: Any) -> Any:
    """``value``, or the name of the precision for this number of bits, as used up to release 0.1."""
    number = int(value) if isinstance(value, str) and value.isdecimal() else value
    if isinstance(number, int) and not isinstance(number, bool):
        return _OF_BITS.get(number, value)
    return value


def precision_names(values: Any) -> Any:
    """``values`` with :func:`precision_name` applied to the items of lists and the keys of mappings, at any depth."""
    if isinstance(values, Mapping):
        return {precision_name(key): value for key, value in values.items()}
    if isinstance(values, (list, tuple)):
        return [precision_names(value) for value in values]
    return precision_name(values)

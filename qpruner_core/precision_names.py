"""Names of the precisions, for code that must not import torch. The classes are in :mod:`qpruner_core.precisions`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

BITS_PER_WEIGHT: dict[str, float] = {
    "nf4": 4.127,
    "int8": 8.0,
    "int2_g64": 2.25,
    "int3_g64": 3.25,
    "int4_g128": 4.125,
    "int4_g64": 4.25,
    "int4_g32": 4.5,
    "int5_g64": 5.25,
    "int6_g64": 6.25,
    "int7_g64": 7.25,
    "fp8": 8.0,
    "int8_channel": 8.0,
    "int8_w8a8": 8.0,
    "int8_g128": 8.125,
    "iq2_xs": 2.3125,
    "iq2_s": 2.5625,
    "q2_k": 2.625,
    "iq3_xxs": 3.0625,
    "q3_k": 3.4375,
    "iq3_s": 3.4375,
    "iq4_xs": 4.25,
    "iq4_nl": 4.5,
    "q4_0": 4.5,
    "q4_k": 4.5,
    "q4_1": 5.0,
    "q5_0": 5.5,
    "q5_k": 5.5,
    "q5_1": 6.0,
    "q6_k": 6.5625,
    "q8_0": 8.5,
    "f16": 16.0,
    "bf16": 16.0,
}
"""Nominal size of each precision, constants of blocks included (of NF4 with double quantization)."""

UNQUANTIZED = "bf16"
"""The precision of the weights of a pruned model."""

_OF_BITS = {4: "nf4", 8: "int8", 16: "bf16"}


def size_order(name: str) -> tuple[float, str]:
    """Sorts names by rising size, and those of one size by the alphabet."""
    return BITS_PER_WEIGHT[name], name


def precision_name(value: Any) -> Any:
    """``value``, or the name of the precision that stands for this number of bits up to release 0.1."""
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

"""Names of the precisions, for code that must not import torch. The classes are in :mod:`qpruner_core.precisions`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

BITS_PER_WEIGHT: dict[str, float] = {
    "nf4": 4.127,
    "int8": 8.0,
    "bf16": 16.0,
}
"""Nominal size of each precision, constants of blocks included (of NF4 with double quantization)."""

UNQUANTIZED = "bf16"
"""The precision of the weights of a pruned model."""

_OF_BITS = {4: "nf4", 8: "int8", 16: "bf16"}


def size_order(name: str) -> float:
    """Sorts names by rising size."""
    return BITS_PER_WEIGHT[name]


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

"""``quantization_config`` of ``config.json``: the precision of each module, in the form of the library."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from qpruner_core.precisions.compressed_tensors import QUANTIZED
from qpruner_core.targets.compressed_tensors.support import UNQUANTIZED

QUANT_METHOD = "compressed-tensors"
_MIXED = "mixed-precision"


def quantization_config(precision: Mapping[str, str], ignored: Sequence[str]) -> dict[str, Any]:
    """Arguments of the library's ``QuantizationConfig``: a group of modules for each precision, by full names.

    ``precision``: name of each linear module's precision. ``ignored``: other modules that stay in 16 bits (the head).
    """
    groups: dict[str, dict[str, Any]] = {}
    for module, name in precision.items():
        if name != UNQUANTIZED:
            groups.setdefault(name, {"targets": [], **QUANTIZED[name].scheme()})["targets"].append(module)
    formats = {group["format"] for group in groups.values()}
    return {
        "quant_method": QUANT_METHOD,
        "quantization_status": "compressed",
        "format": formats.pop() if len(formats) == 1 else _MIXED,
        "config_groups": groups,
        "ignore": [*(module for module, name in precision.items() if name == UNQUANTIZED), *ignored],
        "kv_cache_scheme": None,
    }


def read_precisions(values: Mapping[str, Any]) -> dict[str, str]:
    """The name of the precision of every quantized module, from a ``quantization_config`` that we wrote.

    Raises:
        ValueError: it is not one, or a group differs from the precision of its name.
        KeyError, TypeError, AttributeError: it has another structure.
    """
    if values["quant_method"] != QUANT_METHOD:
        raise ValueError(f"quant_method is {values['quant_method']!r}")
    found: dict[str, str] = {}
    for name, group in values["config_groups"].items():
        scheme = {key: group[key] for key in ("weights", "input_activations", "format")}
        if name not in QUANTIZED or scheme != QUANTIZED[name].scheme():
            raise ValueError(f"its group {name!r} is not a precision of QPruner")
        for module in group["targets"]:
            if found.setdefault(module, name) != name:
                raise ValueError(f"{module} is in two groups")
    return found

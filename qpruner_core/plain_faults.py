"""Pydantic's messages in plain words: the error, and a valid value."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from qpruner_core.strict import fault_as_sentence

_SAID: Mapping[str, str] = {
    "missing": "It is missing.",
    "greater_than": "It is too small. Give more than {gt}.",
    "greater_than_equal": "It is too small. Give {ge} or more.",
    "less_than": "It is too large. Give less than {lt}.",
    "less_than_equal": "It is too large. Give {le} or less.",
    "multiple_of": "It does not divide evenly. Give a multiple of {multiple_of}.",
    "int_type": "Not a whole number. Give one such as 8.",
    "int_parsing": "Not a whole number. Give one such as 8.",
    "int_parsing_size": "It has too many digits. Give a smaller number.",
    "int_from_float": "Not a whole number. Give one such as 8.",
    "float_type": "Not a number. Give one such as 0.5.",
    "float_parsing": "Not a number. Give one such as 0.5.",
    "finite_number": "Not a finite number. Give one such as 0.5.",
    "bool_type": "Not a boolean. Give true or false.",
    "bool_parsing": "Not a boolean. Give true or false.",
    "string_type": "Not a text. Give it in quotes.",
    "string_too_long": "It is too long. Give at most {max_length} characters.",
    "literal_error": "Unknown value. Give {expected}.",
    "enum": "Unknown value. Give {expected}.",
    "list_type": "Not a list. Give one such as [8].",
    "tuple_type": "Not a list. Give one such as [8].",
    "dict_type": "Not a group of settings. Give an object with a value for each name.",
    "model_type": "Not a group of settings. Give an object with a value for each name.",
    "model_attributes_type": "Not a group of settings. Give an object with a value for each name.",
    "too_long": "There are too many entries. Give at most {max_length}.",
    "too_short": "There are too few entries. Give at least {min_length}.",
    "string_pattern_mismatch": "It has the wrong form. Give a text that matches {pattern}.",
}


def plain_fault(fault: Mapping[str, Any]) -> str:
    """A sentence or two about one of ``ValidationError.errors()``; the second, if any, begins with "Give"."""
    kind, context = fault["type"], fault.get("ctx") or {}
    if kind == "string_too_short":
        least = context["min_length"]
        return "It is empty." if least == 1 else f"It is too short. Give at least {least} characters."
    said = _SAID.get(kind)
    return fault_as_sentence(str(fault["msg"])) if said is None else said.format_map(context)

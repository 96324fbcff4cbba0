"""The base of every settings model: unknown keys are refused, values do not change."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic_core import InitErrorDetails, PydanticCustomError


class StrictModel(BaseModel):
    """A frozen Pydantic model that refuses unknown keys and NaN."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, validate_default=True)


def fault_at(path: str, message: str, value: Any) -> ValidationError:
    """What a validator of a whole model raises of the setting at the dotted ``path``, whose ``value`` does not go with
    others; in place of ``ValueError``, which names no setting."""
    kind = PydanticCustomError("value_error", "{message}", {"message": message})
    loc = tuple(path.split("."))
    return ValidationError.from_exception_data("settings", [InitErrorDetails(type=kind, loc=loc, input=value)])


def fault_as_sentence(message: str) -> str:
    """What Pydantic says of a value, as a sentence."""
    said = message.removeprefix("Value error, ")
    return said if said.endswith((".", "?", "!")) else f"{said}."

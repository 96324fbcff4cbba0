"""Base class of settings models: unknown keys are rejected, values are immutable."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic_core import InitErrorDetails, PydanticCustomError


class StrictModel(BaseModel):
    """A frozen Pydantic model that rejects unknown keys and NaN."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, validate_default=True)


def fault_at(path: str, message: str, value: Any) -> ValidationError:
    """The error that a model validator raises for the setting at the dotted ``path``, whose ``value`` conflicts with
    others; used instead of ``ValueError``, which names no setting."""
    kind = PydanticCustomError("value_error", "{message}", {"message": message})
    loc = tuple(path.split("."))
    return ValidationError.from_exception_data("settings", [InitErrorDetails(type=kind, loc=loc, input=value)])


def fault_as_sentence(message: str) -> str:
    """Pydantic's message about a value, as a sentence."""
    said = message.removeprefix("Value error, ")
    return said if said.endswith((".", "?", "!")) else f"{said}."

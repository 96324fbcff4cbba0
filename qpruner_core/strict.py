"""Base class of settings models: unknown keys are rejected, values are immutable."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, get_args

from pydantic import BaseModel, ConfigDict, ValidationError, ValidationInfo, field_validator
from pydantic_core import InitErrorDetails, PydanticCustomError


class StrictModel(BaseModel):
    """A frozen Pydantic model that rejects unknown keys and NaN."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, validate_default=True)

    @field_validator("*", mode="before")
    @classmethod
    def _no_boolean_as_number(cls, value: Any, info: ValidationInfo) -> Any:
        """Refuse ``true`` and ``false`` where no boolean belongs; Pydantic takes them for 1 and 0."""
        assert info.field_name is not None
        given = value if isinstance(value, list | tuple) else [value]
        if any(isinstance(item, bool) for item in given):
            types = set(_types_within(cls.model_fields[info.field_name].annotation))
            if types & {int, float} and bool not in types:
                raise ValueError("must be a number, not true or false")
        return value


def _types_within(annotation: Any) -> Iterator[Any]:
    yield annotation
    for part in get_args(annotation):
        yield from _types_within(part)


def fault_at(path: str, message: str, value: Any) -> ValidationError:
    """The error that a model validator raises for the setting at the dotted ``path``, whose ``value`` conflicts with
    others; used instead of ``ValueError``, which names no setting."""
    kind = PydanticCustomError("value_error", "{message}", {"message": message})
    loc = tuple(path.split("."))
    return ValidationError.from_exception_data("settings", [InitErrorDetails(type=kind, loc=loc, input=value)])


def fault_as_sentence(message: str) -> str:
    """Pydantic's message about a value, as a sentence."""
    said = message.removeprefix("Value error, ").replace("a valid tuple", "a valid list")
    return said if said.endswith((".", "?", "!")) else f"{said}."

"""The base of every settings model: unknown keys are refused, values do not change."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class StrictModel(BaseModel):
    """A frozen Pydantic model that refuses unknown keys and NaN."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, validate_default=True)


def fault_as_sentence(message: str) -> str:
    """What Pydantic says of a value, as a sentence."""
    said = message.removeprefix("Value error, ")
    return said if said.endswith((".", "?", "!")) else f"{said}."

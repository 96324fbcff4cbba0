"""Settings of the export stage."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, field_validator

from qpruner_core.formats.declarations import FORMATS, in_order
from qpruner_core.sizes import ByteSize
from qpruner_core.strict import StrictModel

RECIPE = "recipe.json"
CARD = "README.md"
_NAMES = [one.name for one in FORMATS]
FormatName = Annotated[str, Field(json_schema_extra={"enum": list(_NAMES)})]


class ExportConfig(StrictModel):
    """Checkpoints to write."""

    formats: tuple[FormatName, ...] = Field(
        default=(),
        max_length=16,
        description="; ".join(f'"{one.name}": {one.title}' for one in FORMATS) + ". Default: that of the target.",
    )

    max_shard_size: ByteSize = Field(
        default=5_000_000_000,
        description='Size of the largest weight file of a checkpoint, as a number of bytes or as "5GB".',
    )

    @field_validator("formats")
    @classmethod
    def _known(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        choices = ", ".join(f'"{name}"' for name in _NAMES)
        unknown = [name for name in value if name not in _NAMES]
        if unknown:
            raise ValueError(f"{unknown[0][:64]!r} is not a format: choose from {choices}")
        return in_order(value)

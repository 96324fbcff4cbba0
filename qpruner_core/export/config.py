"""Settings of the export stage."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator

from qpruner_core.sizes import ByteSize
from qpruner_core.strict import StrictModel

Format = Literal["mixed", "merged", "merged_quantized"]
MIXED: Format = "mixed"
MERGED: Format = "merged"
MERGED_QUANTIZED: Format = "merged_quantized"
RECIPE = "recipe.json"
CARD = "README.md"
_FORMATS: tuple[Format, ...] = (MIXED, MERGED, MERGED_QUANTIZED)


class ExportConfig(StrictModel):
    """Which checkpoints are written."""

    formats: tuple[Format, ...] = Field(
        default=("mixed", "merged"),
        max_length=16,
        description='"mixed": every part at its precision, with adapters; "merged": one 16-bit model for any tool; '
        '"merged_quantized": mixed with the adapters merged in and quantized again, at a loss that is measured.',
    )

    max_shard_size: ByteSize = Field(
        default=5_000_000_000, description='Bytes of the largest weight file of a checkpoint, such as "5GB".'
    )

    @field_validator("formats")
    @classmethod
    def _not_empty(cls, value: tuple[Format, ...]) -> tuple[Format, ...]:
        if not value:
            raise ValueError("name at least one of " + ", ".join(f'"{name}"' for name in _FORMATS))
        return tuple(sorted(set(value), key=_FORMATS.index))

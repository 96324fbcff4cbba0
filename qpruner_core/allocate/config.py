"""Settings of the allocate stage."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator

from qpruner_core.strict import StrictModel


class AllocateConfig(StrictModel):
    """The search over per-layer precisions."""

    trials: int = Field(default=40, ge=1, le=2000, description="Allocations to try, seeds included.")
    random_seeds: int = Field(default=6, ge=0, description="Random allocations among the seeds.")
    candidates: int = Field(default=400, ge=1, description="Budget-keeping candidates per proposal.")
    calibration_sequences: int = Field(default=8, ge=1, description="Sequences of text a trial is measured on.")
    precisions: tuple[Literal[4, 8, 16], ...] = Field(
        default=(4, 8, 16), description="Bits that the weights of a layer may have."
    )
    granularity: Literal["layer", "block", "module"] = Field(
        default="layer", description="What has bits of its own: a layer, its attention and its MLP, or every module."
    )
    embeddings: bool = Field(
        default=True, description="The embeddings and the head may have 8 bits, where that is the better use of bytes."
    )

    @field_validator("precisions")
    @classmethod
    def _sorted_unique(cls, value: tuple[Literal[4, 8, 16], ...]) -> tuple[Literal[4, 8, 16], ...]:
        if not value:
            raise ValueError("name at least one of 4, 8, 16")
        return tuple(sorted(set(value)))

"""Settings of the prune stage."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from qpruner_core.strict import StrictModel


class PruneConfig(StrictModel):
    """What to remove, and how its importance is measured."""

    ratio: float | None = Field(
        default=None, ge=0, le=0.9,
        description="Fraction of the blocks' parameters to remove; null finds the smallest that meets the budget.",
    )  # fmt: skip
    attention_unit: Literal["kv_group", "query_head", "none"] = Field(
        default="kv_group",
        description="What attention loses: whole key-value groups, one query head from every group, or nothing.",
    )
    protect_first: int = Field(default=3, ge=0, description="Blocks at the input that keep their width.")
    protect_last: int = Field(default=2, ge=0, description="Blocks at the output that keep their width.")
    width_multiple: int = Field(default=32, ge=1, description="MLP widths are rounded to a multiple of this.")
    calibration_sequences: int = Field(default=32, ge=1, description="Sequences of calibration text for importance.")

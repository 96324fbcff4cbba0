"""Settings of the prune stage."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from qpruner_core.bounds import MOST_LAYERS, MOST_SEQUENCES, WIDEST_MLP
from qpruner_core.strict import StrictModel

CriterionName = Literal[
    "taylor_first", "taylor_second", "taylor_mixed", "taylor_vector", "magnitude", "wanda", "flap", "random"
]
LayoutName = Literal["same_ratio", "global", "stock", "depth"]
AttentionUnit = Literal["kv_group", "query_head", "none"]
CompensationName = Literal["none", "bias", "refit"]


class PruneConfig(StrictModel):
    """What to remove, how its importance is measured, and how the removal is spread over the layers."""

    ratio: float | None = Field(
        default=None, ge=0, le=0.9,
        description="Fraction of the blocks' parameters to remove; null finds the smallest that meets the budget.",
    )  # fmt: skip
    ratio_choice: Literal["smallest", "enough_bits", "measured"] = Field(
        default="smallest",
        description="How a ratio that is not given is found: the smallest that meets the budget at the lowest "
        "precision (smallest); up to 0.2 more, until the weights that are kept have three bits each (enough_bits); or "
        "of several ratios the one whose pruned and quantized model is expected to be nearest to the dense one "
        "(measured; minutes more).",
    )
    criterion: CriterionName = Field(
        default="taylor_second",
        description="Importance of a unit: from gradients (taylor_…), weights (magnitude), activations (wanda, flap) "
        "or chance (random).",
    )
    layout: LayoutName = Field(
        default="same_ratio",
        description="Where it is removed: the same ratio in every unprotected layer, by one ranking over all of them "
        "(global), one width for all layers (stock), or whole layers (depth).",
    )
    remove_layers: int = Field(
        default=0, ge=0, le=MOST_LAYERS,
        description="Whole layers removed first, those that change their input least; width makes up the rest.",
    )  # fmt: skip
    compensation: CompensationName = Field(
        default="refit",
        description="What makes up for the removed units: the kept weights fitted anew by least squares (refit), their "
        "mean as a bias (bias), or nothing (none).",
    )
    steps: int = Field(
        default=1, ge=1, le=100, description="Prune in so many steps, measuring importance anew in each."
    )
    attention_unit: AttentionUnit = Field(
        default="none",
        description="What attention loses: whole key-value groups, one query head from every group, or nothing.",
    )
    protect_first: int = Field(
        default=3, ge=0, le=MOST_LAYERS, description="Blocks at the input that keep their width."
    )
    protect_last: int = Field(
        default=2, ge=0, le=MOST_LAYERS, description="Blocks at the output that keep their width."
    )
    width_multiple: int = Field(
        default=32, ge=1, le=WIDEST_MLP, description="MLP widths are rounded to a multiple of this."
    )
    calibration_sequences: int = Field(
        default=32, ge=1, le=MOST_SEQUENCES, description="Sequences of calibration text for importance."
    )

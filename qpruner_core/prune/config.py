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
    """Settings of pruning: the ratio, the importance of units, and the spread of removal over the layers."""

    ratio: float | None = Field(
        default=None, ge=0, le=0.9,
        description="Fraction of the layers' parameters to remove; null chooses it by ratio_choice.",
    )  # fmt: skip
    ratio_choice: Literal["smallest", "enough_bits", "measured"] = Field(
        default="smallest",
        description=(
            "How the ratio is chosen if it is not given. smallest: the smallest ratio that meets the budget at "
            "the lowest precision; enough_bits: up to 0.2 more, until the remaining weights have three bits "
            "each; measured: of several ratios, the one whose pruned and quantized model is predicted to be "
            "nearest to the dense one (takes minutes longer)."
        ),
    )
    criterion: CriterionName = Field(
        default="taylor_second",
        description="How the importance of a unit is measured: from gradients (taylor_…), weights (magnitude), "
        "activations (wanda, flap), or at random (random).",
    )
    layout: LayoutName = Field(
        default="same_ratio",
        description=(
            "How removal is spread across layers. same_ratio: the same fraction in every unprotected layer; "
            "global: by one ranking across all layers; stock: one width for all layers, so that stock model "
            "classes load the result; depth: whole layers."
        ),
    )
    remove_layers: int = Field(
        default=0, ge=0, le=MOST_LAYERS,
        description=(
            "Number of whole layers to remove first, those that change their input least; narrower layers "
            "provide the rest."
        ),
    )  # fmt: skip
    compensation: CompensationName = Field(
        default="refit",
        description="Compensation for the removed units. refit: the remaining weights are fitted by least squares; "
        "bias: the mean of the removed contribution is added as a bias; none.",
    )
    steps: int = Field(
        default=1, ge=1, le=100, description="Number of pruning steps; importance is measured again before each."
    )
    attention_unit: AttentionUnit = Field(
        default="none",
        description="Unit removed from attention. kv_group: a key-value head with its query heads; query_head: one "
        "query head from every group; none: attention is not pruned.",
    )
    protect_first: int = Field(
        default=3, ge=0, le=MOST_LAYERS, description="Layers at the input that keep their width."
    )
    protect_last: int = Field(
        default=2, ge=0, le=MOST_LAYERS, description="Layers at the output that keep their width."
    )
    width_multiple: int = Field(
        default=32, ge=1, le=WIDEST_MLP, description="MLP widths are rounded to a multiple of this."
    )
    calibration_sequences: int = Field(
        default=32, ge=1, le=MOST_SEQUENCES, description="Calibration sequences for measuring importance."
    )

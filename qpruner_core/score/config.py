"""Settings of the score stage."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from qpruner_core.bounds import MOST_SEQUENCES
from qpruner_core.strict import StrictModel

Information = Literal["kmeans", "knn", "gaussian"]
Sensitivity = Literal["divergence", "fisher"]
SensitivityContext = Literal["highest", "lowest", "mean"]


class ScoreConfig(StrictModel):
    """How layer importance and (layer, precision) sensitivity are measured."""

    calibration_sequences: int = Field(default=2, ge=1, le=MOST_SEQUENCES, description="Sequences of calibration text.")
    information: Information = Field(
        default="kmeans", description="Estimator of the mutual information of a layer's output and the prediction."
    )
    clusters: int = Field(default=32, ge=2, le=4096, description="Bins of a layer's output, for kmeans.")
    neighbours: int = Field(default=3, ge=1, le=1024, description="Neighbours of the same prediction, for knn.")
    components: int = Field(
        default=16, ge=1, le=4096, description="Principal components of a layer's output, for knn and gaussian."
    )
    predictions: int = Field(
        default=64, ge=2, le=4096, description="Most frequent predicted tokens told apart; others are one."
    )
    sensitivity: Sensitivity = Field(
        default="fisher",
        description="What a precision does: estimated from gradients (fisher), or measured by KL divergence, which "
        "takes several times as long.",
    )
    sensitivity_context: SensitivityContext = Field(
        default="highest",
        description="Precision of the other layers while divergence is measured: 16 bits, the lowest, or both in turn.",
    )
    fisher_samples: int = Field(default=4, ge=1, le=1024, description="Backward passes for every sequence, for fisher.")

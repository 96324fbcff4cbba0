"""Settings of the score stage."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from qpruner_core.bounds import MOST_SEQUENCES
from qpruner_core.strict import StrictModel

Information = Literal["kmeans", "knn", "gaussian"]
SensitivityMeasure = Literal["divergence", "fisher"]
SensitivityContext = Literal["highest", "lowest", "mean"]


class ScoreConfig(StrictModel):
    """How layer importance and (layer, precision) sensitivity are measured."""

    calibration_sequences: int = Field(
        default=2, ge=1, le=MOST_SEQUENCES, description="Calibration sequences for the scores."
    )
    information: Information = Field(
        default="kmeans", description="Estimator of the mutual information between a layer's output and the prediction."
    )
    clusters: int = Field(default=32, ge=2, le=4096, description="Number of bins of a layer's output (kmeans).")
    neighbours: int = Field(
        default=3, ge=1, le=1024, description="Number of neighbours with the same prediction (knn)."
    )
    components: int = Field(
        default=16, ge=1, le=4096, description="Principal components of a layer's output (knn, gaussian)."
    )
    predictions: int = Field(
        default=64,
        ge=2,
        le=4096,
        description="Most frequent predicted tokens that are kept separate; all others count as one class.",
    )
    sensitivity: SensitivityMeasure = Field(
        default="fisher",
        description="How the harm of a precision is measured. fisher: estimated from gradients; divergence: measured "
        "as KL divergence, which takes several times as long.",
    )
    sensitivity_context: SensitivityContext = Field(
        default="highest",
        description="Precision of the other layers while divergence is measured: highest (16 bits), lowest, or the "
        "mean of both.",
    )
    fisher_samples: int = Field(default=4, ge=1, le=1024, description="Backward passes per sequence (fisher).")

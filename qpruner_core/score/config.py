"""Settings of the score stage."""

from __future__ import annotations

from pydantic import Field

from qpruner_core.strict import StrictModel


class ScoreConfig(StrictModel):
    """How layer importance and (layer, precision) sensitivity are measured."""

    calibration_sequences: int = Field(default=8, ge=1, description="Sequences of calibration text.")
    clusters: int = Field(default=32, ge=2, description="Bins of a layer's output in the mutual-information estimate.")
    predictions: int = Field(default=64, ge=2, description="Most frequent predicted tokens told apart; others are one.")

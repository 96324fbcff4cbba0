"""Settings of the evaluate stage."""

from __future__ import annotations

from pydantic import Field

from qpruner_core.strict import StrictModel


class EvaluateConfig(StrictModel):
    """What the before/after table is measured on."""

    max_tokens: int = Field(default=16384, ge=2, description="Held-out tokens that perplexity is measured on.")
    max_choices: int = Field(
        default=200, ge=1, description="Multiple-choice examples scored, where the dataset has them."
    )
    generated_tokens: int = Field(default=32, ge=1, description="Tokens generated to measure speed.")

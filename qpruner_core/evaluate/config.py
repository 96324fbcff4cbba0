"""Settings of the evaluate stage."""

from __future__ import annotations

from pydantic import Field

from qpruner_core.bounds import MOST_CHOICES, MOST_GENERATED_TOKENS, MOST_HELD_OUT_TOKENS
from qpruner_core.strict import StrictModel


class EvaluateConfig(StrictModel):
    """Measurements of the before/after table."""

    max_tokens: int = Field(default=8192, ge=2, le=MOST_HELD_OUT_TOKENS, description="Held-out tokens for perplexity.")
    max_choices: int = Field(
        default=200, ge=1, le=MOST_CHOICES,
        description="Multiple-choice examples to score, if the dataset has any.",
    )  # fmt: skip
    generated_tokens: int = Field(
        default=32, ge=1, le=MOST_GENERATED_TOKENS, description="Tokens to generate when speed is measured."
    )

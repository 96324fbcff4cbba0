"""Settings of the fine-tune stage."""

from __future__ import annotations

from pydantic import Field

from qpruner_core.strict import StrictModel


class FinetuneConfig(StrictModel):
    """Recovery by LoRA on the quantized model."""

    steps: int = Field(default=200, ge=0, description="Optimiser steps; 0 skips recovery.")
    batch_size: int = Field(default=2, ge=1, description="Sequences per forward pass.")
    gradient_accumulation: int = Field(default=1, ge=1, description="Forward passes per optimiser step.")
    learning_rate: float = Field(default=4e-4, gt=0, description="Peak learning rate of AdamW.")
    warmup_steps: int = Field(default=20, ge=0, description="Steps of linear warm-up before cosine decay.")
    dropout: float = Field(default=0.0, ge=0, lt=1, description="LoRA dropout.")
    max_gradient_norm: float = Field(default=1.0, gt=0, description="Gradients are clipped to this norm.")

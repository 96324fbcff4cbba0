"""Settings of the finetune stage, which recovers the loss."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from qpruner_core.bounds import MOST_SEQUENCES, MOST_STEPS
from qpruner_core.strict import StrictModel

Recovery = Literal["adapter", "merge", "scales", "merge+scales"]
RecoveryPart = Literal["adapter", "merge", "scales"]
_PARTS: dict[Recovery, tuple[RecoveryPart, ...]] = {
    "adapter": ("adapter",),
    "merge": ("merge",),
    "scales": ("scales",),
    "merge+scales": ("merge", "scales"),
}


def recovery_parts(recovery: Recovery) -> tuple[RecoveryPart, ...]:
    """Parts of a recovery, in order. A shipped adapter stands alone: merging it, or training scales beside it, would
    break its initialisation."""
    return _PARTS[recovery]


class FinetuneConfig(StrictModel):
    """Recovery: training of the quantized model to reduce the loss from compression."""

    recovery: Literal["auto", Recovery] = Field(
        default="auto",
        description="Parameters that are trained. adapter: a LoRA that ships beside the model and counts in its "
        "bytes; merge: a LoRA that is merged into the weights, which are then rounded again; scales: "
        "norms, biases and block scales as the format stores them, with unchanged codes; merge+scales: "
        "both in turn; auto: adapter for bitsandbytes, scales for gguf and compressed-tensors.",
    )
    steps: int = Field(
        default=200, ge=0, le=MOST_STEPS,
        description="Optimiser steps (merge+scales: half for each); 0 skips recovery.",
    )  # fmt: skip
    batch_size: int = Field(default=2, ge=1, le=1024, description="Sequences per forward pass.")
    gradient_accumulation: int = Field(default=1, ge=1, le=4096, description="Forward passes per optimiser step.")
    loss: Literal["auto", "distillation", "cross_entropy"] = Field(
        default="auto",
        description="Training loss. cross_entropy: on the text; distillation: towards the dense model's predictions; "
        "auto: distillation if the dense model fits into free memory.",
    )
    temperature: float = Field(
        default=1.0, ge=0.01, le=100, description="Temperature of both distributions in distillation."
    )
    learning_rate: float = Field(default=4e-4, gt=0, le=10, description="Peak learning rate of AdamW for LoRA.")
    scale_learning_rate: float = Field(
        default=2e-3, gt=0, le=10,
        description="Peak learning rate for scales, norms and biases, relative to their size.",
    )  # fmt: skip
    schedule: Literal["cosine", "linear", "constant"] = Field(
        default="cosine", description="Learning rate schedule after warm-up."
    )
    warmup_steps: int = Field(
        default=20, ge=0, le=MOST_STEPS, description="Steps of linear warm-up, at most half of all steps."
    )
    dropout: float = Field(default=0.0, ge=0, lt=1, description="LoRA dropout.")
    max_gradient_norm: float = Field(default=1.0, gt=0, le=1e6, description="Norm that gradients are clipped to.")
    packing: bool = Field(
        default=True, description="Pack several short examples into one sequence; they do not attend to each other."
    )
    activation_checkpointing: bool = Field(
        default=False, description="Recompute activations in the backward pass: less memory, a third more time."
    )
    validation_sequences: int = Field(
        default=16, ge=0, le=MOST_SEQUENCES,
        description="Training examples held back for choosing the best step by their loss; 0 takes the last step.",
    )  # fmt: skip
    evaluate_every: int = Field(
        default=50, ge=1, le=MOST_STEPS, description="Steps between evaluations on the examples held back."
    )
    patience: int = Field(
        default=3, ge=0, le=MOST_STEPS,
        description="Evaluations without improvement after which training stops; 0 never stops early.",
    )  # fmt: skip
    checkpoint_every: int = Field(
        default=50, ge=1, le=MOST_STEPS,
        description="Steps between checkpoints, from which an interrupted run resumes.",
    )  # fmt: skip

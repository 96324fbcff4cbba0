"""Settings of the quantize stage."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from qpruner_core.damping import DAMPING
from qpruner_core.strict import StrictModel

Int8Kind = Literal["weight_only", "llm_int8"]


class QuantizeConfig(StrictModel):
    """Quantization constants and the adapters' initialisation."""

    double_quant: bool = Field(default=True, description="Also quantize the block constants of NF4 to 8 bits.")
    int8: Int8Kind = Field(
        default="weight_only",
        description=(
            "Kind of int8 for the bitsandbytes target. weight_only: weights in 8 bits, multiplied in 16; "
            "llm_int8: LLM.int8(), which also rounds the inputs to 8 bits; same bytes, less exact."
        ),
    )
    lora_rank: int = Field(default=8, ge=1, le=256, description="Rank of each adapter.")
    lora_alpha: float = Field(
        default=16.0, gt=0, le=65536, description="Scaling numerator of LoRA; the scaling is alpha / rank."
    )
    rounding: Literal["nearest", "error_feedback"] = Field(
        default="error_feedback",
        description=(
            "Rounding of weights. nearest: to the nearest level; error_feedback: later weights compensate for "
            "the errors of earlier ones on calibration text (GPTQ), with less error in more time."
        ),
    )
    damping: float = Field(
        default=DAMPING, gt=0, le=100,
        description=(
            "Damping of error feedback: share of the mean of the inputs' mean squares that is added to them. "
            "Higher values rely less on the correlation of inputs on the calibration text."
        ),
    )  # fmt: skip
    initialisation: Literal["loftq", "qera", "zero"] = Field(
        default="qera",
        description="Initialisation of adapters. loftq: nearest to the quantization error of the weights; qera: "
        "nearest to the error of the outputs on calibration text; zero.",
    )
    loftq_iterations: int = Field(
        default=2, ge=0, le=100,
        description="Alternations between quantizing a weight and fitting its adapter; 0 starts adapters at zero.",
    )  # fmt: skip
    rank_allocation: Literal["uniform", "error"] = Field(
        default="uniform",
        description="Distribution of adapter ranks. uniform: lora_rank everywhere; error: more rank where it removes "
        "more error, in the same total bytes.",
    )

    @property
    def needs_input_scales(self) -> bool:
        """Whether fitting a module needs the scale of its inputs on calibration text."""
        return self.rank_allocation == "error" or (self.initialisation == "qera" and self.loftq_iterations > 0)

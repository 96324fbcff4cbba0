"""Settings of the quantize stage."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from qpruner_core.damping import DAMPING
from qpruner_core.strict import StrictModel

Int8Kind = Literal["weight_only", "llm_int8"]


class QuantizeConfig(StrictModel):
    """Quantization constants and the adapters' initialisation."""

    double_quant: bool = Field(default=True, description="Quantize NF4's block constants to 8 bits as well.")
    int8: Int8Kind = Field(
        default="weight_only",
        description="int8 of the bitsandbytes target: weights that are multiplied in 16 bits, or LLM.int8(), which "
        "rounds what they are multiplied with to 8 bits as well: the same bytes, less exact.",
    )
    humming_kernels: bool = Field(
        default=False,
        description="Allow int2_g64, int3_g64, int5_g64, int6_g64 and int7_g64 (compressed-tensors). vLLM runs them "
        "with the Humming kernels alone: on NVIDIA GPUs from sm75, with that package installed.",
    )
    lora_rank: int = Field(default=8, ge=1, le=256, description="Rank of every adapter.")
    lora_alpha: float = Field(default=16.0, gt=0, le=65536, description="LoRA scaling is alpha / rank.")
    rounding: Literal["nearest", "error_feedback"] = Field(
        default="error_feedback",
        description="Each weight to the nearest level, or so that weights make up for the errors of those before them "
        "on calibration text (GPTQ): the same bytes, less error, more time.",
    )
    damping: float = Field(
        default=DAMPING, gt=0, le=100,
        description="Share of their mean that is added to the mean squares of the inputs for error feedback: the more, "
        "the less it relies on how inputs go together on the calibration text.",
    )  # fmt: skip
    initialisation: Literal["loftq", "qera", "zero"] = Field(
        default="qera",
        description="What adapters begin as: nearest to what quantization took of the weights (loftq), or of the "
        "outputs on calibration text (qera), or nothing (zero).",
    )
    loftq_iterations: int = Field(
        default=2, ge=0, le=100,
        description="Times that a weight is quantized and its adapter fitted; 0 starts them at zero.",
    )  # fmt: skip
    rank_allocation: Literal["uniform", "error"] = Field(
        default="uniform",
        description="All adapters have lora_rank, or each what takes away the most error, in as many bytes together.",
    )

    @property
    def needs_input_scales(self) -> bool:
        """Whether fitting a module takes the scale of its inputs on calibration text."""
        return self.rank_allocation == "error" or (self.initialisation == "qera" and self.loftq_iterations > 0)

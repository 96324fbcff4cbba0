"""The setting ``fit``: a device and its use. Imports neither torch nor transformers."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from qpruner_core.sizes import ByteSize
from qpruner_core.strict import StrictModel

CacheType = Literal["f16", "bf16", "q8_0", "fp8"]

LONGEST_CONTEXT = 2**24
"""Tokens; models read at most a few million today."""
MOST_PARALLEL = 65_536
"""Concurrent sequences; engines allow some thousand."""


class FitConfig(StrictModel):
    """Device that runs the finished model. The byte budget of the weights is derived from it, in place of
    ``memory_budget``."""

    memory: ByteSize = Field(
        description='Memory of the device that the engine may use, as a number of bytes or as "24GB" or "22GiB".'
    )
    context: int = Field(
        default=4096,
        ge=1,
        le=LONGEST_CONTEXT,
        description="Length of the longest sequence in tokens, prompt and answer together.",
    )
    sequences: int = Field(
        default=1, ge=1, le=MOST_PARALLEL, description="Number of sequences served at the same time."
    )
    cache_type: CacheType = Field(
        default="f16",
        description="Type of the KV cache: f16 or bf16 in every engine, q8_0 in llama.cpp, fp8 in vLLM.",
    )

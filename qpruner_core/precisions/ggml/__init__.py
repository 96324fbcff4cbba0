"""The formats of ggml, which llama.cpp and Ollama run: a new one is one object in a file here, and its line in
:data:`GGML`."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from qpruner_core.precisions.ggml.block_format import BlockFormat
from qpruner_core.precisions.ggml.codebooks import IQ2_S, IQ2_XS, IQ3_S, IQ3_XXS
from qpruner_core.precisions.ggml.plain_blocks import IQ4_NL, Q4_0, Q4_1, Q5_0, Q5_1, Q8_0
from qpruner_core.precisions.ggml.scalar_format import ScalarFormat
from qpruner_core.precisions.ggml.sixteen_bits import BF16, F16, SixteenBits
from qpruner_core.precisions.ggml.super_blocks import IQ4_XS, Q2_K, Q3_K, Q4_K, Q5_K, Q6_K

__all__ = ["GGML", "BlockFormat", "GgmlPrecision", "ScalarFormat", "SixteenBits"]

GgmlPrecision = BlockFormat | SixteenBits

_ALL: tuple[GgmlPrecision, ...] = (
    IQ2_XS, IQ2_S, Q2_K, IQ3_XXS, Q3_K, IQ3_S, IQ4_XS, IQ4_NL, Q4_0, Q4_K, Q4_1, Q5_0, Q5_K, Q5_1, Q6_K, Q8_0,
    F16, BF16,
)  # fmt: skip

GGML: Mapping[str, GgmlPrecision] = MappingProxyType(
    {precision.name: precision for precision in sorted(_ALL, key=lambda precision: precision.bits_per_weight)}
)
"""Every precision of ggml by its name, in the order of bits per weight."""

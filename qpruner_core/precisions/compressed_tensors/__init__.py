"""The precisions of the format ``compressed-tensors``, for vLLM, SGLang and transformers."""

from __future__ import annotations

from qpruner_core.precisions.compressed_tensors.eight_bits import Fp8, Int8W8A8
from qpruner_core.precisions.compressed_tensors.packed import PackedInt

__all__ = ["QUANTIZED", "Fp8", "Int8W8A8", "PackedInt", "Quantized"]

Quantized = PackedInt | Int8W8A8 | Fp8
"""A lossy precision of this format."""

_EVERYWHERE: tuple[Quantized, ...] = (
    PackedInt(4, 32),
    PackedInt(4, 64),
    PackedInt(4, 128),
    PackedInt(8, None),
    PackedInt(8, 128),
    Int8W8A8(),
    Fp8(),
)
_OF_HUMMING: tuple[Quantized, ...] = tuple(PackedInt(bits, 64) for bits in (2, 3, 5, 6, 7))

QUANTIZED: dict[str, Quantized] = {precision.name: precision for precision in (*_EVERYWHERE, *_OF_HUMMING)}
"""Every precision of this format but 16 bits, by name."""

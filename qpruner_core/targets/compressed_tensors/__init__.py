"""Checkpoints in the format ``compressed-tensors``, for vLLM, SGLang and transformers."""

from __future__ import annotations

from qpruner_core.targets.compressed_tensors.reader import read_compressed_tensors
from qpruner_core.targets.compressed_tensors.support import UNQUANTIZED, fitting, fused_paths, supports
from qpruner_core.targets.compressed_tensors.writer import encode_model, tensor_bytes, write_compressed_tensors

__all__ = [
    "UNQUANTIZED", "encode_model", "fitting", "fused_paths", "read_compressed_tensors", "supports", "tensor_bytes",
    "write_compressed_tensors",
]  # fmt: skip

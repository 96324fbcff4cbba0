"""GGUF files for llama.cpp: supported models, exact bytes, writing and reading."""

from qpruner_core.targets.gguf.about import about_model
from qpruner_core.targets.gguf.adapter import adapter_shapes, read_with_adapter, write_gguf_adapter
from qpruner_core.targets.gguf.loaders import loader_of, supports
from qpruner_core.targets.gguf.plan import (
    PlannedTensor,
    other_tensor_bytes,
    planned_tensors,
    stored_bytes,
    tensor_bytes,
)
from qpruner_core.targets.gguf.reader import read_gguf
from qpruner_core.targets.gguf.refusal import Refusal
from qpruner_core.targets.gguf.tokenizer import supports_tokenizer
from qpruner_core.targets.gguf.writer import PackedTensor, write_gguf

__all__ = [
    "PackedTensor", "PlannedTensor", "Refusal", "about_model", "adapter_shapes", "loader_of", "other_tensor_bytes",
    "planned_tensors", "read_gguf", "read_with_adapter", "stored_bytes", "supports", "supports_tokenizer",
    "tensor_bytes", "write_gguf", "write_gguf_adapter",
]  # fmt: skip

"""Requests that a target cannot serve, with the setting at fault and what the answer says."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from tests.core.small_models import small_model
from tests.gguf_target import AS_LLAMA_CPP
from tests.tiny_model import build_tokenizer


@dataclass(frozen=True)
class Unservable:
    """``family`` and ``overrides`` of the model, ``settings`` of the request, and ``code``, ``field`` and a part of the
    message or the remedy of the answer."""

    family: str
    settings: dict[str, Any]
    code: str
    at: str
    says: str
    overrides: dict[str, Any] = field(default_factory=dict)
    words: bool = False
    """Whether the tokenizer knows whole words alone."""


UNSERVABLE = {
    "a family that llama.cpp lacks": Unservable(
        "opt", {"target": "gguf"}, "unsupported_by_target", "target", "no architecture for opt"
    ),
    "a family that vLLM cannot have quantized": Unservable(
        "gpt2", {"target": "compressed-tensors"}, "unsupported_by_target", "target", "Conv1D"
    ),
    "widths of their own in a family of one width": Unservable(
        "qwen3", {"target": "gguf", "prune": {"layout": "global"}}, "unsupported_by_target", "prune.layout", "stock"
    ),
    "biases in a family of one width": Unservable(
        "qwen3", {"target": "gguf", "prune": {"compensation": "bias"}}, "invalid_config", "prune.compensation",
        "in llama.cpp all layers of qwen3 models have the same width",
    ),
    "an activation of another kind": Unservable(
        "llama", {"target": "gguf"}, "unsupported_by_target", "target", "relu", {"hidden_act": "relu"}
    ),
    "a precision of bitsandbytes for llama.cpp": Unservable(
        "llama", {"target": "gguf", "allocate": {"precisions": ["nf4"]}}, "invalid_config", "allocate.precisions",
        "q4_k",
    ),
    "a precision of llama.cpp for vLLM": Unservable(
        "llama", {"target": "compressed-tensors", "allocate": {"precisions": ["q4_k"]}}, "invalid_config",
        "allocate.precisions", "int4_g64",
    ),
    "a precision of rare kernels": Unservable(
        "llama", {"target": "compressed-tensors", "allocate": {"precisions": ["int3_g64"]}}, "invalid_config",
        "allocate.precisions", "gpu+humming",
    ),
    "a precision that vLLM has no kernel for on a CPU": Unservable(
        "llama", {"runs_on": "cpu", "allocate": {"precisions": ["int8_channel"]}}, "invalid_config",
        "allocate.precisions", "no kernel for int8_channel on a CPU",
    ),
    "kernels of another target": Unservable(
        "llama", {"target": "gguf", "runs_on": "gpu+humming"}, "invalid_config", "runs_on", "compressed-tensors"
    ),
    "another processor under an earlier name": Unservable(
        "llama", {"runs_on": "cpu", "quantize": {"humming_kernels": True}}, "invalid_config", "runs_on",
        "give only runs_on",
    ),
    "a format of another target": Unservable(
        "llama", {"target": "gguf", "export": {"formats": ["mixed"]}}, "invalid_config", "export.formats", "gguf"
    ),
    "a tokenizer that GGUF cannot carry": Unservable(
        "llama", {"target": "gguf"}, "unsupported_by_target", "target", "tokenizer", words=True
    ),
    "an unknown target": Unservable("llama", {"target": "onnx"}, "invalid_config", "target", "bitsandbytes"),
}  # fmt: skip


def write_model(case: Unservable, directory: Path) -> Path:
    """The small model of ``case`` with its tokenizer."""
    if case.words:
        _build_word_tokenizer(directory)
    else:
        build_tokenizer(directory)
    settings = AS_LLAMA_CPP.get(case.family, {}) | case.overrides
    small_model(case.family, dtype=torch.bfloat16, vocab_size=300, **settings).save_pretrained(directory)
    return directory


def _build_word_tokenizer(directory: Path) -> None:
    backend = Tokenizer(models.WordLevel({"<s>": 0, "</s>": 1, "the": 2, "with": 3, "[UNK]": 4}, unk_token="[UNK]"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend, bos_token="<s>", eos_token="</s>", unk_token="[UNK]", pad_token="</s>"
    )
    tokenizer.save_pretrained(directory)

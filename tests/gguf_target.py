"""Small models of every family as the GGUF target writes them."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, PretrainedConfig, PreTrainedModel

from qpruner_core.models.experts import separate_experts
from qpruner_core.models.families import LayerWidths, find_family
from qpruner_core.models.reshape import config_with_shape
from qpruner_core.targets.gguf import write_gguf
from tests.core.small_models import small_config
from tests.tiny_model import build_tokenizer

VOCABULARY = 300
"""Tokens of the tokenizer that these models have."""

AS_LLAMA_CPP: dict[str, dict[str, Any]] = {
    "falcon": {},
    "gemma2": {"query_pre_attn_scalar": 8},
    "gemma3_text": {"query_pre_attn_scalar": 8},
    "gpt2": {},
    "gpt_neox": {},
    "granite": {},
    "llama": {},
    "mistral": {"sliding_window": None},
    "olmo2": {},
    "phi3": {"sliding_window": None},
    "qwen2": {"use_sliding_window": False},
    "qwen3": {"use_sliding_window": False},
    "qwen3_moe": {"mlp_only_layers": []},
    "smollm3": {"use_sliding_window": False, "no_rope_layers": None},
}
"""What each family's small model must not have, because llama.cpp computes it otherwise."""

WHOLE_HEADS = {"rope_parameters": {"rope_type": "default", "rope_theta": 10000.0, "partial_rotary_factor": 1.0}}
"""Rotary positions of Phi 3 over whole heads, which its mini models have."""

DECI: dict[str, dict[str, Any]] = {name: AS_LLAMA_CPP[name] for name in ("llama", "mistral", "qwen2")} | {
    "phi3": AS_LLAMA_CPP["phi3"] | WHOLE_HEADS
}
"""The families whose layers may differ in llama.cpp."""


def config_of(family: str, **overrides: Any) -> PretrainedConfig:
    """The config of a small dense model that llama.cpp computes as it is."""
    return small_config(family, **{"vocab_size": VOCABULARY, **AS_LLAMA_CPP[family], **overrides})


def widths(heads: list[int], groups: list[int], channels: list[int]) -> list[LayerWidths]:
    """Layers of these numbers of heads, key-value heads and MLP channels."""
    layers = zip(heads, groups, channels, strict=True)
    return [
        LayerWidths(num_attention_heads=head, num_key_value_heads=group, intermediate_size=channel)
        for head, group, channel in layers
    ]


DIFFERENT = widths([4, 6, 2, 6, 4], [2, 3, 1, 3, 2], [40, 24, 33, 7, 40])
"""Layers that all differ, the first among them from what the dense config says."""


def pruned_config(
    family: str, shape: list[LayerWidths], *, output_bias: bool = False, **overrides: Any
) -> PretrainedConfig:
    """The config of the small model of a family pruned to ``shape``."""
    return config_with_shape(config_of(family, **overrides), find_family(family), shape, output_bias=output_bias)


def random_model(config: PretrainedConfig, *, seed: int = 0) -> PreTrainedModel:
    """A model of ``config`` in 32 bits, whose weights are numbers of float16 and bfloat16 alike."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()
        for parameter in model.parameters():
            values = torch.empty_like(parameter).normal_(std=0.1 if parameter.dim() > 1 else 0.5)
            parameter.data = values.to(torch.bfloat16).half().float()
    return model


def write(model: PreTrainedModel, path: Path, dtype: torch.dtype = torch.float16) -> Path:
    """Write ``model`` with matrices in ``dtype`` and a tokenizer beside ``path``."""
    directory = path.parent / "tokenizer"
    if not directory.is_dir():
        build_tokenizer(directory)
    apart = separate_experts(copy.deepcopy(model))
    weights = {name: parameter.data.to(dtype) for name, parameter in apart.named_parameters()}
    write_gguf(path, config=model.config, weights=weights, tokenizer_directory=directory)
    return path

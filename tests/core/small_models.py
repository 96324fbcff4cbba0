"""Randomly initialised models of every family, small enough for exact checks."""

from __future__ import annotations

from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, PretrainedConfig, PreTrainedModel

FAMILIES = ("llama", "mistral", "qwen2")
BIASED = {"attention_bias": True, "mlp_bias": True}
"""What gives a Llama biases in every linear module of a layer."""


def small_config(model_type: str, **overrides: Any) -> PretrainedConfig:
    """Six heads in three groups, five layers."""
    settings: dict[str, Any] = {
        "hidden_size": 48, "num_hidden_layers": 5, "num_attention_heads": 6, "num_key_value_heads": 3,
        "intermediate_size": 40, "vocab_size": 97, "tie_word_embeddings": False, "max_position_embeddings": 64,
    }  # fmt: skip
    return AutoConfig.for_model(model_type, **(settings | overrides))


def small_model(
    model_type: str, *, dtype: torch.dtype = torch.float64, seed: int = 0, **overrides: Any
) -> PreTrainedModel:
    """A model of :func:`small_config` with random weights, biases and norms, in eval mode."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = AutoModelForCausalLM.from_config(small_config(model_type, **overrides), dtype=torch.float64)
        for parameter in model.parameters():
            parameter.data.normal_(std=0.1 if parameter.dim() > 1 else 0.5)
    return model.to(dtype).eval()

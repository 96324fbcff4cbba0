"""Randomly initialised models of every family, small enough for exact checks."""

from __future__ import annotations

from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, PretrainedConfig, PreTrainedModel

BIASED = {"attention_bias": True, "mlp_bias": True}
"""What gives a Llama biases in every linear module of a layer, and other families in some of them."""

WINDOW = 6
"""The sliding window of the families that have one; shorter than the sequences of the tests."""

_SIZES: dict[str, Any] = {
    "hidden_size": 48, "num_hidden_layers": 5, "num_attention_heads": 6, "num_key_value_heads": 3,
    "intermediate_size": 40, "vocab_size": 97, "tie_word_embeddings": False, "max_position_embeddings": 64,
}  # fmt: skip

_OVERRIDES: dict[str, dict[str, Any]] = {
    "falcon": {"new_decoder_architecture": True},
    "gemma2": {"head_dim": 8, "query_pre_attn_scalar": 24, "sliding_window": WINDOW, "tie_word_embeddings": True},
    "gemma3_text": {
        "head_dim": 8, "query_pre_attn_scalar": 24, "sliding_window": WINDOW, "tie_word_embeddings": True,
        "layer_types": ["sliding_attention", "full_attention", "sliding_attention", "sliding_attention",
                        "full_attention"],
    },
    "granite": {
        "embedding_multiplier": 3.0, "logits_scaling": 2.0, "residual_multiplier": 0.7, "attention_multiplier": 0.2,
        "tie_word_embeddings": True,
    },
    "gpt2": {"bos_token_id": 1, "eos_token_id": 2},
    "mistral": {"sliding_window": WINDOW},
    "olmo2": {"eos_token_id": 2},
    "phi3": {
        "sliding_window": WINDOW, "pad_token_id": 0, "eos_token_id": 2,
        "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0, "partial_rotary_factor": 0.5},
    },
    "qwen2": {"use_sliding_window": True, "sliding_window": WINDOW, "max_window_layers": 2},
    "qwen3": {
        "head_dim": 8, "use_sliding_window": True, "sliding_window": WINDOW, "max_window_layers": 2,
    },
    "qwen3_moe": {
        "head_dim": 8, "num_experts": 6, "num_experts_per_tok": 2, "moe_intermediate_size": 16,
        "mlp_only_layers": [3], "norm_topk_prob": True, "experts_implementation": "eager",  # others lack float64
    },
    "smollm3": {
        "no_rope_layers": [1, 0, 1, 1, 0], "use_sliding_window": True, "sliding_window": WINDOW,
        "tie_word_embeddings": True, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
    },
}  # fmt: skip
"""What each family's small model has besides :data:`_SIZES`, so that all that is its own is in use."""

_NAMES: dict[str, dict[str, str | None]] = {
    "falcon": {"num_key_value_heads": "num_kv_heads", "intermediate_size": "ffn_hidden_size"},
    "gpt2": {"num_key_value_heads": None, "intermediate_size": "n_inner"},
    "gpt_neox": {"num_key_value_heads": None},
    "opt": {"num_key_value_heads": None, "intermediate_size": "ffn_dim"},
}
"""What a family calls some of :data:`_SIZES`; ``None``: it has no such size."""


def small_config(model_type: str, **overrides: Any) -> PretrainedConfig:
    """Six heads in three groups where the family has groups, five layers."""
    names = _NAMES.get(model_type, {})
    settings = _SIZES | _OVERRIDES.get(model_type, {}) | overrides
    values = {names.get(name, name): value for name, value in settings.items()}
    values.pop(None, None)
    return AutoConfig.for_model(model_type, **values)


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

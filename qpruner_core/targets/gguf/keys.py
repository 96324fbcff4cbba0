"""The metadata of an architecture from a transformers config: the converse of ``models/gguf/values.py``."""

from __future__ import annotations

from typing import Any

from transformers import PretrainedConfig

from qpruner_core.models.families import Family
from qpruner_core.targets.gguf.rope import rope_keys, rope_parameters

Keys = dict[str, Any]
"""Names below the architecture's -> bool, int (32 bits, unsigned), float (32 bits), str, or a list of one of them."""


def context_length(config: PretrainedConfig, *, windows: bool) -> int:
    """Largest number of positions at which llama.cpp computes the same as the model.

    ``windows``: llama.cpp supports the windows of the architecture. If it does not, its layers have full attention,
    which is the same up to the window's length.
    """
    window = sliding_window(config)
    longest = int(config.max_position_embeddings)
    return longest if windows or window is None else min(longest, window)


def sliding_window(config: PretrainedConfig) -> int | None:
    """Positions visible to the layers with a window; ``None`` if every layer has full attention."""
    window = getattr(config, "sliding_window", None)
    types = getattr(config, "layer_types", None)
    if not window or (types is not None and "sliding_attention" not in types):
        return None
    return int(window)


def size_keys(config: PretrainedConfig, family: Family, *, by_layer: bool, windows: bool) -> Keys:
    """Common keys of all architectures. ``by_layer``: widths are stored as one value per layer."""
    widths = family.widths(config)
    head_dim = family.head_dim(config)
    lists = {
        "feed_forward_length": [layer.intermediate_size or config.intermediate_size for layer in widths],
        "attention.head_count": [layer.num_attention_heads for layer in widths],
        "attention.head_count_kv": [layer.num_key_value_heads for layer in widths],
    }
    return {
        "block_count": len(widths),
        "context_length": context_length(config, windows=windows),
        "embedding_length": config.hidden_size,
        "vocab_size": config.vocab_size,
        **{name: values if by_layer else values[0] for name, values in lists.items()},
        "attention.key_length": head_dim,
        "attention.value_length": head_dim,
        **_norm_keys(config),
        **rope_keys(config, head_dim),
    }


def no_keys(config: PretrainedConfig) -> Keys:
    """Keys of an architecture without special ones."""
    return {}


def granite_keys(config: PretrainedConfig) -> Keys:
    """The four scales of Granite."""
    return {
        "attention.scale": float(config.attention_multiplier),
        "embedding_scale": float(config.embedding_multiplier),
        "residual_scale": float(config.residual_multiplier),
        "logit_scale": float(config.logits_scaling),
    }


def gemma2_keys(config: PretrainedConfig) -> Keys:
    """Windows, and soft caps (0: none, because a missing value would mean the usual ones)."""
    return {
        "attn_logit_softcapping": float(config.attn_logit_softcapping or 0.0),
        "final_logit_softcapping": float(config.final_logit_softcapping or 0.0),
        "attention.sliding_window": int(config.sliding_window),
        **_pattern_keys(config, 2),
    }


def gemma3_keys(config: PretrainedConfig) -> Keys:
    """Windows, and the cap of logits if there is one."""
    cap = {"final_logit_softcapping": float(config.final_logit_softcapping)} if config.final_logit_softcapping else {}
    if sliding_window(config) is None:
        return cap
    return {**cap, "attention.sliding_window": int(config.sliding_window), **_pattern_keys(config, 6)}


def gpt_neox_keys(config: PretrainedConfig) -> Keys:
    """Whether attention and MLP have the same input."""
    return {"use_parallel_residual": bool(config.use_parallel_residual)}


def falcon_keys(config: PretrainedConfig) -> Keys:
    """The name of the order of query, key and value rows."""
    return {"tensor_data_layout": "jploski"}


def phi3_keys(config: PretrainedConfig) -> Keys:
    """No window, because llama.cpp has none for Phi 3 (0 distinguishes it from Phi 4), and the length before
    extension."""
    original = rope_parameters(config).get("original_max_position_embeddings")
    original = original or getattr(config, "original_max_position_embeddings", None) or config.max_position_embeddings
    return {"attention.sliding_window": 0, "rope.scaling.original_context_length": int(original)}


def qwen3_moe_keys(config: PretrainedConfig) -> Keys:
    """The experts."""
    return {
        "expert_count": config.num_experts,
        "expert_used_count": config.num_experts_per_tok,
        "expert_feed_forward_length": config.moe_intermediate_size,
    }


def _norm_keys(config: PretrainedConfig) -> Keys:
    epsilon = getattr(config, "rms_norm_eps", None)
    if epsilon is not None:
        return {"attention.layer_norm_rms_epsilon": float(epsilon)}
    epsilon = getattr(config, "layer_norm_eps", None) or config.layer_norm_epsilon
    return {"attention.layer_norm_epsilon": float(epsilon)}


def _pattern_keys(config: PretrainedConfig, period: int) -> Keys:
    """Layers with a window, one by one, unless it is all but the last of each ``period``."""
    windowed = [kind == "sliding_attention" for kind in config.layer_types]
    usual = [index % period < period - 1 for index in range(len(windowed))]
    return {} if windowed == usual else {"attention.sliding_window_pattern": windowed}

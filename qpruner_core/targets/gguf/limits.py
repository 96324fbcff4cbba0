"""Config features that a llama.cpp architecture computes differently, or cannot load: a sentence, or ``None``."""

from __future__ import annotations

from transformers import PretrainedConfig

from qpruner_core.models.gguf.values import GEMMA2_27B, GEMMA3_27B

_SMOLLM3_PERIOD = 4


def no_limit(config: PretrainedConfig) -> str | None:
    """None."""
    return None


def falcon_limit(config: PretrainedConfig) -> str | None:
    """Falcon in the form of its 7B, 11B and 40B models."""
    if config.alibi or config.bias or not (config.parallel_attn or config.new_decoder_architecture):
        return "llama.cpp computes Falcon only with rotary positions, parallel attention and MLP, and no biases."
    if not (config.new_decoder_architecture or config.multi_query):
        return "llama.cpp computes Falcon only with key-value heads shared by queries."
    return None


def gemma2_limit(config: PretrainedConfig) -> str | None:
    """Gemma 2 with tied embeddings."""
    if not config.tie_word_embeddings:
        return "llama.cpp computes Gemma 2 only with the embedding as its head."
    return _scale_limit(config, GEMMA2_27B)


def gemma3_limit(config: PretrainedConfig) -> str | None:
    """Gemma 3 with the attention scale that llama.cpp computes."""
    return _scale_limit(config, GEMMA3_27B)


def gpt2_limit(config: PretrainedConfig) -> str | None:
    """GPT-2 with attention scores divided by the root of the head's size, in all layers."""
    if config.scale_attn_weights and not config.scale_attn_by_inverse_layer_idx:
        return None
    return (
        "llama.cpp computes GPT-2 only with attention scores divided by the root of the head's size "
        "(scale_attn_weights true, scale_attn_by_inverse_layer_idx false)."
    )


def gpt_neox_limit(config: PretrainedConfig) -> str | None:
    """GPT-NeoX with all of its biases and a separate head."""
    if not config.attention_bias:
        return "llama.cpp computes GPT-NeoX only with biases in its attention."
    return untied_limit(config)


def untied_limit(config: PretrainedConfig) -> str | None:
    """A separate head, which some loaders require."""
    if config.tie_word_embeddings:
        return "llama.cpp requires this model to have a separate head, not its embedding."
    return None


def moe_limit(config: PretrainedConfig) -> str | None:
    """Qwen 3 with experts in every layer and normed expert weights."""
    if config.mlp_only_layers or config.decoder_sparse_step != 1:
        return "llama.cpp computes Qwen 3 MoE only with experts in every layer."
    return None if config.norm_topk_prob else "llama.cpp computes Qwen 3 MoE only with normalised weights of experts."


def smollm3_limit(config: PretrainedConfig) -> str | None:
    """SmolLM3 without rotary positions in every fourth layer."""
    usual = [int((index + 1) % _SMOLLM3_PERIOD != 0) for index in range(config.num_hidden_layers)]
    if [int(one) for one in config.no_rope_layers] != usual:
        return "llama.cpp computes SmolLM3 without rotary positions in every fourth layer, and in no other."
    return None


def _scale_limit(config: PretrainedConfig, layers_of_27b: int) -> str | None:
    """llama.cpp recognises the 27B models by their number of layers, and scales their attention differently."""
    large = config.num_hidden_layers == layers_of_27b
    computed = config.hidden_size // config.num_attention_heads if large else config.head_dim
    if config.query_pre_attn_scalar == computed:
        return None
    return (
        f"llama.cpp divides the attention scores of this model by the root of {computed}, not of "
        f"{config.query_pre_attn_scalar} (query_pre_attn_scalar)."
    )

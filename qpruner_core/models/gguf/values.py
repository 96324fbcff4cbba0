"""Config values of each architecture, from its metadata and its tensors."""

from __future__ import annotations

from typing import Any

from qpruner_core.models.gguf.header import corrupt
from qpruner_core.models.gguf.keys import ArchitectureKeys
from qpruner_core.models.gguf.rope import rope_parameters
from qpruner_core.models.gguf.split import GgufModel

_RMS = "attention.layer_norm_rms_epsilon"
_LAYER_NORM = "attention.layer_norm_epsilon"
_WINDOW = "attention.sliding_window"
_PATTERN = "attention.sliding_window_pattern"
_MOST_LAYERS, _LARGEST_SIZE = 1024, 2**24
GEMMA2_27B, GEMMA3_27B = 46, 62
"""Layers of the models whose attention is scaled by the hidden size; llama.cpp also recognises them by that number."""


def llama(keys: ArchitectureKeys, model: GgufModel) -> dict[str, Any]:
    """Llama, Mistral and other models that llama.cpp writes as ``llama``."""
    return _decoder(keys, model) | _biases(model)


def smollm3(keys: ArchitectureKeys, model: GgufModel) -> dict[str, Any]:
    """SmolLM3, whose every fourth layer has no rotary positions."""
    return _decoder(keys, model) | _biases(model) | {"use_sliding_window": False, "no_rope_layer_interval": 4}


def granite(keys: ArchitectureKeys, model: GgufModel) -> dict[str, Any]:
    """Granite, with its four scales; 0 or a missing value means that a scale is not used."""
    if not keys.flag("rope.scaling.finetuned", True):
        raise keys.refuse("rope.scaling.finetuned", "Granite without rotary positions is not supported")
    found = _decoder(keys, model) | _biases(model)
    return found | {
        "attention_multiplier": keys.number("attention.scale", 0.0) or found["head_dim"] ** -0.5,
        "embedding_multiplier": keys.number("embedding_scale", 0.0) or 1.0,
        "residual_multiplier": keys.number("residual_scale", 0.0) or 1.0,
        "logits_scaling": keys.number("logit_scale"),
    }


def qwen2(keys: ArchitectureKeys, model: GgufModel) -> dict[str, Any]:
    """Qwen 2 and 2.5."""
    return _decoder(keys, model) | {"use_sliding_window": False}


def qwen3(keys: ArchitectureKeys, model: GgufModel) -> dict[str, Any]:
    """Qwen 3."""
    biased = "blk.0.attn_q.bias" in model.tensors
    return _decoder(keys, model) | {"use_sliding_window": False, "attention_bias": biased}


def qwen3_moe(keys: ArchitectureKeys, model: GgufModel) -> dict[str, Any]:
    """Qwen 3 with experts in every layer and normed expert weights, as computed by llama.cpp."""
    if not keys.flag("expert_weights_norm", True):
        raise keys.refuse("expert_weights_norm", "only normed weights of experts are supported")
    return qwen3(keys, model) | {
        "num_experts": keys.integer("expert_count"),
        "num_experts_per_tok": keys.integer("expert_used_count"),
        "moe_intermediate_size": keys.integer("expert_feed_forward_length"),
        "norm_topk_prob": True,
        "decoder_sparse_step": 1,
        "mlp_only_layers": [],
    }


def olmo2(keys: ArchitectureKeys, model: GgufModel) -> dict[str, Any]:
    """OLMo 2. A sliding window makes it OLMo 3, which is another family."""
    if keys.integer(_WINDOW, 0):
        raise keys.refuse(_WINDOW, "OLMo 3 is not supported")
    keys.each_layer(_PATTERN)
    return _decoder(keys, model) | {"attention_bias": "blk.0.attn_q.bias" in model.tensors}


def phi3(keys: ArchitectureKeys, model: GgufModel) -> dict[str, Any]:
    """Phi 3 and 4."""
    found = _sizes(keys, model)
    dims = keys.integer("rope.dimension_count", found["head_dim"])
    rope = rope_parameters(keys, model, dims, found["max_position_embeddings"])
    if rope["rope_type"] not in ("default", "longrope"):
        raise keys.refuse("rope.scaling.type", "Phi 3 is supported only with longrope")
    found["rope_parameters"] = rope | {"partial_rotary_factor": dims / found["head_dim"]}
    if found["head_dim"] == found["hidden_size"] // found["num_attention_heads"]:
        del found["head_dim"]  # which stock configs do not have
    return found | {
        "rms_norm_eps": keys.number(_RMS),
        "original_max_position_embeddings": rope.get(
            "original_max_position_embeddings",
            keys.integer("rope.scaling.original_context_length", found["max_position_embeddings"]),
        ),
        "sliding_window": keys.integer(_WINDOW, 0) or None,
    }


def gemma2(keys: ArchitectureKeys, model: GgufModel) -> dict[str, Any]:
    """Gemma 2: every second layer has a sliding window; attention and logits are soft-capped."""
    found = _decoder(keys, model)
    if (
        keys.number("rope.freq_base_swa", found["rope_parameters"]["rope_theta"])
        != (found["rope_parameters"]["rope_theta"])
    ):
        raise keys.refuse("rope.freq_base_swa", "Gemma 2 with two bases of rotary positions is not supported")
    return found | {
        "layer_types": _layer_types(keys, found["num_hidden_layers"], 2),
        "sliding_window": keys.integer(_WINDOW, 4096),
        "attn_logit_softcapping": keys.number("attn_logit_softcapping", 50.0) or None,
        "final_logit_softcapping": keys.number("final_logit_softcapping", 30.0) or None,
        "query_pre_attn_scalar": _gemma_scalar(found, GEMMA2_27B),
        "attention_bias": False,
    }


def gemma3(keys: ArchitectureKeys, model: GgufModel) -> dict[str, Any]:
    """The language model of Gemma 3: five layers of six have a sliding window, with separate rotary positions."""
    found = _decoder(keys, model)
    window = keys.integer(_WINDOW, 0)
    local = keys.number("rope.freq_base_swa", 10000.0)
    layers = found["num_hidden_layers"]
    return found | {
        "layer_types": _layer_types(keys, layers, 6) if window else ["full_attention"] * layers,
        "sliding_window": window or found["max_position_embeddings"],
        "rope_parameters": {
            "full_attention": found["rope_parameters"],
            "sliding_attention": {"rope_type": "default", "rope_theta": local},
        },
        "final_logit_softcapping": keys.number("final_logit_softcapping", 0.0) or None,
        "query_pre_attn_scalar": _gemma_scalar(found, GEMMA3_27B),
        "attention_bias": False,
    }


def gpt2(keys: ArchitectureKeys, model: GgufModel) -> dict[str, Any]:
    """GPT-2, which has learned positions instead of rotary ones."""
    found = _sizes(keys, model)
    if found["num_key_value_heads"] != found["num_attention_heads"]:
        raise keys.refuse("attention.head_count_kv", "GPT-2 has no grouped attention")
    return {
        "n_embd": found["hidden_size"],
        "n_layer": found["num_hidden_layers"],
        "n_head": found["num_attention_heads"],
        "n_inner": found["intermediate_size"],
        "n_positions": found["max_position_embeddings"],
        "vocab_size": found["vocab_size"],
        "tie_word_embeddings": found["tie_word_embeddings"],
        "layer_norm_epsilon": keys.number(_LAYER_NORM),
    }


def gpt_neox(keys: ArchitectureKeys, model: GgufModel) -> dict[str, Any]:
    """GPT-NeoX and Pythia, which rotate a part of each head."""
    found = _sizes(keys, model)
    if found.pop("num_key_value_heads") != found["num_attention_heads"]:
        raise keys.refuse("attention.head_count_kv", "GPT-NeoX has no grouped attention")
    width = found.pop("head_dim")
    dims = keys.integer("rope.dimension_count", width)
    rope = rope_parameters(keys, model, dims, found["max_position_embeddings"])
    return found | {
        "rope_parameters": rope | {"partial_rotary_factor": dims / width},
        "layer_norm_eps": keys.number(_LAYER_NORM),
        "use_parallel_residual": keys.flag("use_parallel_residual", True),
        "attention_bias": "blk.0.attn_qkv.bias" in model.tensors,
    }


def falcon(keys: ArchitectureKeys, model: GgufModel) -> dict[str, Any]:
    """Falcon: one key-value head for all queries (7B), or groups of them (11B, 40B), with one norm or two."""
    found = _decoder(keys, model, norm=_LAYER_NORM, norm_field="layer_norm_epsilon")
    groups, two_norms = found.pop("num_key_value_heads"), "blk.0.attn_norm_2.weight" in model.tensors
    del found["head_dim"]
    grouped = two_norms or groups > 1
    return found | {
        "num_kv_heads": groups,
        "ffn_hidden_size": found.pop("intermediate_size"),
        "new_decoder_architecture": grouped,
        "num_ln_in_parallel_attn": (2 if two_norms else 1) if grouped else None,
        "multi_query": True,
        "parallel_attn": True,
        "alibi": False,
        "bias": False,
    }


def _decoder(
    keys: ArchitectureKeys, model: GgufModel, norm: str = _RMS, norm_field: str = "rms_norm_eps"
) -> dict[str, Any]:
    """Sizes, norm and rotary positions of a decoder that rotates each head as a whole."""
    found = _sizes(keys, model)
    if keys.integer("rope.dimension_count", found["head_dim"]) != found["head_dim"]:
        raise keys.refuse(
            "rope.dimension_count", (f"heads of {found['head_dim']} must be rotated as a whole or not at all")
        )
    rope = rope_parameters(keys, model, found["head_dim"], found["max_position_embeddings"])
    return found | {norm_field: keys.number(norm), "rope_parameters": rope}


def _sizes(keys: ArchitectureKeys, model: GgufModel) -> dict[str, Any]:
    hidden, heads = keys.integer("embedding_length"), keys.integer("attention.head_count")
    embedding = model.tensors.get("token_embd.weight")
    if embedding is None:
        raise corrupt(model.path, "it lacks 'token_embd.weight'")
    if heads < 1 or hidden < heads:
        raise corrupt(model.path, f"it has {heads} attention heads and a hidden size of {hidden}")
    width = keys.integer("attention.key_length", hidden // heads)
    if keys.integer("attention.value_length", width) != width:
        raise keys.refuse("attention.value_length", "values that are not as wide as keys are not supported")
    found = {
        "hidden_size": hidden,
        "num_hidden_layers": keys.integer("block_count"),
        "num_attention_heads": heads,
        "num_key_value_heads": keys.integer("attention.head_count_kv", heads),
        "intermediate_size": keys.integer("feed_forward_length"),
        "max_position_embeddings": keys.integer("context_length"),
        "head_dim": width,
        "vocab_size": embedding.shape[0],
    }
    for name, value in found.items():
        if not 1 <= value <= (_MOST_LAYERS if name == "num_hidden_layers" else _LARGEST_SIZE):
            raise corrupt(model.path, f"{name} is {value}, which is impossible")
    return found | {"tie_word_embeddings": "output.weight" not in model.tensors}


def _biases(model: GgufModel) -> dict[str, bool]:
    names = model.tensors
    return {"attention_bias": "blk.0.attn_q.bias" in names, "mlp_bias": "blk.0.ffn_up.bias" in names}


def _layer_types(keys: ArchitectureKeys, layers: int, period: int) -> list[str]:
    """Whether each layer has a window: all but the last of each period, unless the file lists them."""
    pattern = keys.each_layer(_PATTERN)
    if isinstance(pattern, list):
        if len(pattern) != layers or not all(isinstance(windowed, bool | int) for windowed in pattern):
            raise keys.refuse(_PATTERN, f"it must have a boolean for each of {layers} layers")
        windowed = [bool(one) for one in pattern]
    else:
        period = period if pattern is None else pattern
        windowed = [period == 0 or index % period < period - 1 for index in range(layers)]
    return ["sliding_attention" if one else "full_attention" for one in windowed]


def _gemma_scalar(found: dict[str, Any], layers_of_27b: int) -> int:
    """Attention scores are divided by the root of this."""
    if found["num_hidden_layers"] == layers_of_27b:
        return int(found["hidden_size"] // found["num_attention_heads"])
    return int(found["head_dim"])

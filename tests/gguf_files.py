"""GGUF files of small models, written as llama.cpp's own converter writes them.

Written after ``convert_hf_to_gguf.py`` and with the name maps of the ``gguf`` package, apart from what the package
under test declares.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import torch
from gguf.constants import MODEL_ARCH_NAMES
from transformers import PretrainedConfig, PreTrainedModel
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

NAMES = {
    "falcon": "falcon", "gemma2": "gemma2", "gemma3_text": "gemma3", "gpt2": "gpt2", "gpt_neox": "gptneox",
    "granite": "granite", "llama": "llama", "olmo2": "olmo2", "phi3": "phi3", "qwen2": "qwen2", "qwen3": "qwen3",
    "qwen3_moe": "qwen3moe", "smollm3": "smollm3",
}  # fmt: skip
"""What llama.cpp calls each family that it has."""

_PAIRED = ("llama", "granite", "smollm3")
Change = Callable[[str, np.ndarray], np.ndarray]


def write_model(
    model: PreTrainedModel,
    path: Path,
    *,
    values: Mapping[str, Any] | None = None,
    without: Collection[str] = (),
    extra: Mapping[str, np.ndarray] | None = None,
    shards_of: int = 0,
) -> Path:
    """Write ``model`` to ``path`` in 32 bits; returns the file, or the first of its shards.

    ``values``: metadata below the architecture's name that is added or replaced, or left out where it is ``None``.
    ``without``: tensors to leave out. ``extra``: tensors to add. ``shards_of``: the most tensors of a file.
    """
    config = model.config
    name = NAMES[config.model_type]
    writer = gguf.GGUFWriter(path, name, split_max_tensors=shards_of)
    for key, value in (metadata(config) | dict(values or {})).items():
        if value is not None:
            _add_value(writer, f"{name}.{key}", value)
    add_plain_tokenizer(writer, config.vocab_size)
    for key, tensor in (gguf_tensors(model) | dict(extra or {})).items():
        if key not in without:
            writer.add_tensor(key, np.ascontiguousarray(tensor))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path if path.exists() else min(path.parent.glob(f"{path.stem}-*-of-*.gguf"))


def add_plain_tokenizer(writer: gguf.GGUFWriter, size: int) -> None:
    """A tokenizer of ``size`` tokens that no test reads."""
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(["a", "b", "ab", *(f"<{index}>" for index in range(3, size))])
    writer.add_token_types([gguf.TokenType.NORMAL] * size)
    writer.add_token_merges(["a b"])


def metadata(config: PretrainedConfig) -> dict[str, Any]:
    """The keys that the converter writes for a config, without the architecture's name."""
    heads = config.num_attention_heads
    values: dict[str, Any] = {
        "block_count": config.num_hidden_layers,
        "context_length": config.max_position_embeddings,
        "embedding_length": config.hidden_size,
        "feed_forward_length": getattr(config, "intermediate_size", None)
        or getattr(config, "ffn_hidden_size", None)
        or config.n_inner,
        "attention.head_count": heads,
    }
    groups = getattr(config, "num_kv_heads", None) or getattr(config, "num_key_value_heads", None)
    if groups:
        values["attention.head_count_kv"] = groups
    epsilon = getattr(config, "rms_norm_eps", None)
    if epsilon is None:
        values["attention.layer_norm_epsilon"] = getattr(config, "layer_norm_eps", None) or config.layer_norm_epsilon
    else:
        values["attention.layer_norm_rms_epsilon"] = epsilon
    if config.model_type in ("gemma2", "gemma3_text", "qwen3", "qwen3_moe"):
        values |= {"attention.key_length": config.head_dim, "attention.value_length": config.head_dim}
    return values | _rope_values(config) | _own_values(config)


def _rope_values(config: PretrainedConfig) -> dict[str, Any]:
    rope = getattr(config, "rope_parameters", None)
    if not rope:
        return {}
    values: dict[str, Any] = {}
    if "sliding_attention" in rope:
        values["rope.freq_base_swa"] = rope["sliding_attention"]["rope_theta"]
        rope = rope["full_attention"]
    values["rope.freq_base"] = rope["rope_theta"]
    width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    values["rope.dimension_count"] = int(width * rope.get("partial_rotary_factor", 1.0))
    if rope["rope_type"] in ("linear", "yarn"):
        values |= {"rope.scaling.type": rope["rope_type"], "rope.scaling.factor": float(rope["factor"])}
    if rope["rope_type"] in ("yarn", "longrope"):
        values["rope.scaling.original_context_length"] = rope["original_max_position_embeddings"]
    if rope["rope_type"] == "longrope":
        _, magnitude = ROPE_INIT_FUNCTIONS["longrope"](config, torch.device("cpu"))
        values |= {"rope.scaling.type": "longrope", "rope.scaling.attn_factor": float(magnitude)}
    for name, key in (("attention_factor", "attn_factor"), ("beta_fast", "beta_fast"), ("beta_slow", "beta_slow")):
        if rope["rope_type"] == "yarn" and rope.get(name) is not None:
            values[f"rope.scaling.yarn_{key}"] = float(rope[name])
    return values


def _own_values(config: PretrainedConfig) -> dict[str, Any]:
    kind = config.model_type
    if kind == "granite":
        return {
            "attention.scale": config.attention_multiplier, "embedding_scale": config.embedding_multiplier,
            "residual_scale": config.residual_multiplier, "logit_scale": config.logits_scaling,
        }  # fmt: skip
    if kind == "gemma2":
        return {
            "attn_logit_softcapping": config.attn_logit_softcapping, "attention.sliding_window": config.sliding_window,
            "final_logit_softcapping": config.final_logit_softcapping,
        }  # fmt: skip
    if kind == "gemma3_text":
        windowed = [layer == "sliding_attention" for layer in config.layer_types]
        return {
            "attention.sliding_window": config.sliding_window, "attention.sliding_window_pattern": windowed,
            "final_logit_softcapping": config.final_logit_softcapping,
        }  # fmt: skip
    if kind == "phi3":
        return {"attention.sliding_window": config.sliding_window or 0}
    if kind == "gpt_neox":
        return {"use_parallel_residual": config.use_parallel_residual}
    if kind == "qwen3_moe":
        return {
            "expert_count": config.num_experts, "expert_used_count": config.num_experts_per_tok,
            "expert_feed_forward_length": config.moe_intermediate_size,
        }  # fmt: skip
    return {"tensor_data_layout": "jploski"} if kind == "falcon" else {}


def gguf_tensors(model: PreTrainedModel) -> dict[str, np.ndarray]:
    """The tensors of ``model`` by their GGUF names, laid out as llama.cpp computes with them."""
    config = model.config
    arch = next(key for key, name in MODEL_ARCH_NAMES.items() if name == NAMES[config.model_type])
    names = gguf.get_tensor_name_map(arch, config.num_hidden_layers)
    tensors: dict[str, np.ndarray] = {}
    for name, parameter in model.named_parameters():
        tensor = parameter.detach().float()
        if name.endswith("experts.gate_up_proj"):
            gate, up = tensor.chunk(2, dim=1)
            base = name.removesuffix("gate_up_proj")
            tensors[f"{names.get_name(base + 'gate_proj')}.weight"] = gate.numpy()
            tensors[f"{names.get_name(base + 'up_proj')}.weight"] = up.numpy()
            continue
        module, suffix = name.rsplit(".", 1) if name.endswith((".weight", ".bias")) else (name, "weight")
        found = names.get_name(module)
        assert found is not None, name
        tensors[f"{found}.{suffix}"] = _laid_out(module, tensor, config).numpy()
    return tensors | _factor_tensors(config)


def _laid_out(module: str, tensor: torch.Tensor, config: PretrainedConfig) -> torch.Tensor:
    kind = config.model_type
    if kind in _PAIRED and module.endswith(("q_proj", "k_proj")):
        heads = config.num_attention_heads if module.endswith("q_proj") else config.num_key_value_heads
        rows = tensor.reshape(heads, 2, tensor.shape[0] // heads // 2, *tensor.shape[1:])
        return rows.swapaxes(1, 2).reshape(tensor.shape)
    if kind.startswith("gemma") and module.endswith("norm"):
        return tensor + 1
    if kind == "gpt2" and tensor.dim() == 2 and module.endswith(("c_attn", "c_proj", "c_fc")):
        return tensor.T
    if kind == "gpt_neox" and module.endswith("query_key_value"):
        rows = tensor.reshape(config.num_attention_heads, 3, -1, *tensor.shape[1:])
        return torch.cat([rows[:, part].reshape(-1, *tensor.shape[1:]) for part in range(3)])
    if kind == "falcon" and module.endswith("query_key_value"):
        groups = config.num_kv_heads if config.new_decoder_architecture else 1
        heads = config.num_attention_heads
        rows = tensor.view(groups, heads // groups + 2, config.hidden_size // heads, config.hidden_size)
        parts = (rows[:, :-2], rows[:, [-2]], rows[:, [-1]])
        return torch.cat([part.reshape(-1, config.hidden_size) for part in parts])
    return tensor


def _factor_tensors(config: PretrainedConfig) -> dict[str, np.ndarray]:
    rope = getattr(config, "rope_parameters", None) or {}
    if rope.get("rope_type") == "longrope":
        return {
            f"rope_factors_{length}.weight": np.array(rope[f"{length}_factor"], np.float32)
            for length in ("long", "short")
        }
    if rope.get("rope_type") == "llama3":
        scaled, _ = ROPE_INIT_FUNCTIONS["llama3"](config, torch.device("cpu"))
        dims = 2 * len(scaled)
        plain = 1.0 / rope["rope_theta"] ** (torch.arange(0, dims, 2).float() / dims)
        return {"rope_freqs.weight": (plain / scaled).numpy()}
    return {}


def _add_value(writer: gguf.GGUFWriter, key: str, value: Any) -> None:
    if isinstance(value, bool):
        writer.add_bool(key, value)
    elif isinstance(value, int):
        writer.add_uint32(key, value)
    elif isinstance(value, float):
        writer.add_float32(key, value)
    elif isinstance(value, str):
        writer.add_string(key, value)
    else:
        writer.add_array(key, value)

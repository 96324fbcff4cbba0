"""Rotary positions of a transformers config in GGUF's form: the converse of ``models/gguf/rope.py``."""

from __future__ import annotations

import math
from typing import Any

import torch
from transformers import PretrainedConfig
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

from qpruner_core.models.gguf.rope import FREQUENCIES, LONG, SHORT

_KNOWN = ("default", "linear", "yarn", "llama3", "longrope")
_YARN = {"beta_fast": "yarn_beta_fast", "beta_slow": "yarn_beta_slow"}


def rope_parameters(config: PretrainedConfig) -> dict[str, Any]:
    """The parameters of layers with full attention."""
    found: dict[str, Any] = getattr(config, "rope_parameters", None) or {}
    full: dict[str, Any] = found.get("full_attention", found)
    return full


def rotated_part(config: PretrainedConfig) -> float:
    """The rotated part of each head."""
    return float(rope_parameters(config).get("partial_rotary_factor") or 1.0)


def unknown_rope(config: PretrainedConfig) -> str | None:
    """The kind of scaling of positions if llama.cpp does not compute it."""
    kinds = [rope_parameters(config).get("rope_type", "default")]
    windowed = (getattr(config, "rope_parameters", None) or {}).get("sliding_attention")
    if windowed is not None and windowed.get("rope_type", "default") != "default":
        return str(windowed["rope_type"])
    if rope_parameters(config).get("truncate") is False:  # llama.cpp rounds the range that YaRN blends in
        kinds.append("yarn with truncate: false")
    return next((str(kind) for kind in kinds if kind not in _KNOWN), None)


def rope_keys(config: PretrainedConfig, head_dim: int) -> dict[str, Any]:
    """The keys ``rope.*`` below the architecture's name, of a model whose heads are ``head_dim`` wide."""
    rope = rope_parameters(config)
    if not rope:
        return {}
    keys: dict[str, Any] = {
        "rope.freq_base": float(rope["rope_theta"]),
        "rope.dimension_count": int(head_dim * rotated_part(config)),
    }
    windowed = config.rope_parameters.get("sliding_attention")
    if windowed is not None:
        keys["rope.freq_base_swa"] = float(windowed["rope_theta"])
    kind = rope.get("rope_type", "default")
    if kind in ("linear", "yarn"):
        keys |= {"rope.scaling.type": kind, "rope.scaling.factor": float(rope["factor"])}
    if kind in ("yarn", "longrope"):
        keys["rope.scaling.original_context_length"] = int(_original_length(config))
    if kind == "longrope":
        keys |= {"rope.scaling.type": kind, "rope.scaling.attn_factor": _magnitude(config, kind)}
    if kind == "yarn":
        # llama.cpp multiplies the magnitude from the factor by this one, and ignores yarn_attn_factor
        own = _magnitude(config, kind) / (1 + 0.1 * math.log(max(float(rope["factor"]), 1.0)))
        if not math.isclose(own, 1.0, rel_tol=1e-6):
            keys["rope.scaling.attn_factor"] = own
    for name, key in _YARN.items():
        if kind == "yarn" and rope.get(name) is not None:
            keys[f"rope.scaling.{key}"] = float(rope[name])
    return keys


def factor_tensors(config: PretrainedConfig) -> dict[str, torch.Tensor]:
    """Divisors of the frequencies: tensors of the file, float32 ``[rotated dimensions / 2]``."""
    rope = rope_parameters(config)
    kind = rope.get("rope_type")
    if kind == "longrope":
        factors = {LONG: rope["long_factor"], SHORT: rope["short_factor"]}
        return {name: torch.tensor(values, dtype=torch.float32) for name, values in factors.items()}
    if kind == "llama3":
        scaled, _ = ROPE_INIT_FUNCTIONS["llama3"](config, torch.device("cpu"))
        dims = 2 * len(scaled)
        plain = 1.0 / rope["rope_theta"] ** (torch.arange(0, dims, 2, dtype=torch.float32) / dims)
        return {FREQUENCIES: plain / scaled}
    return {}


def _magnitude(config: PretrainedConfig, kind: str) -> float:
    """Factor of cosine and sine."""
    layers = {"layer_type": "full_attention"} if "full_attention" in config.rope_parameters else {}
    _, magnitude = ROPE_INIT_FUNCTIONS[kind](config, torch.device("cpu"), **layers)
    return float(magnitude)


def _original_length(config: PretrainedConfig) -> int:
    named = rope_parameters(config).get("original_max_position_embeddings")
    return int(named or getattr(config, "original_max_position_embeddings", None) or config.max_position_embeddings)

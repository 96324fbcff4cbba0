"""Rotary positions of a GGUF model as transformers' rope parameters, which give the same angles.

llama.cpp rotates pair i at position p by ``p · freq_base^(−2i/d) / factor_i``, where the factors come from a tensor
(Llama 3.1, LongRoPE), or are computed from the metadata (linear, YaRN), and multiplies cosine and sine by a magnitude.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from gguf.quants import dequantize

from qpruner_core.models.gguf.header import StoredTensor, corrupt
from qpruner_core.models.gguf.keys import ArchitectureKeys
from qpruner_core.models.gguf.split import GgufModel

FREQUENCIES = "rope_freqs.weight"
LONG, SHORT = "rope_factors_long.weight", "rope_factors_short.weight"
FACTOR_TENSORS = (FREQUENCIES, LONG, SHORT)
_SCALING = "rope.scaling"
_LLAMA_3 = {"low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 8192}
_DEFAULT_BASE = 10000.0
_MOST_FACTORS = 4096


def rope_parameters(keys: ArchitectureKeys, model: GgufModel, dims: int, context: int) -> dict[str, Any]:
    """transformers' ``rope_parameters`` of a model that rotates ``dims`` of each head's dimensions.

    ``context``: number of positions of the model.

    Raises:
        UnsupportedArchitectureError: a scaling that transformers does not compute.
        CorruptModelError: impossible values, or a wrong number of factors.
    """
    found: dict[str, Any] = {"rope_theta": keys.number("rope.freq_base", _DEFAULT_BASE)}
    if not found["rope_theta"] > 1:
        raise corrupt(model.path, f"{keys.architecture}.rope.freq_base is {found['rope_theta']}")
    kind = keys.text(f"{_SCALING}.type", "linear")
    divisor = keys.number(f"{_SCALING}.factor", keys.number("rope.scale_linear", 1.0)) or 1.0
    original = keys.integer(f"{_SCALING}.original_context_length", context)
    magnitude = keys.number(f"{_SCALING}.attn_factor", 1.0)
    if divisor < 1 or original < 1 or magnitude <= 0:
        raise corrupt(model.path, f"its {_SCALING} values are impossible")
    tensors = model.tensors
    if LONG in tensors or SHORT in tensors or kind == "longrope":
        if FREQUENCIES in tensors:
            raise corrupt(model.path, f"it holds factors of its rotary positions twice: {FREQUENCIES} and {LONG}")
        factors = {"long_factor": _factors(model, LONG, dims), "short_factor": _factors(model, SHORT, dims)}
        return found | _longrope(factors, context, original, magnitude)
    if FREQUENCIES in tensors:
        if kind == "yarn" or divisor != 1 or magnitude != 1:
            raise keys.refuse(f"{_SCALING}.type", f"together with {FREQUENCIES} it is not supported")
        return found | _frequencies(_factors(model, FREQUENCIES, dims), found["rope_theta"], dims, context, original)
    if kind == "yarn":
        return found | _yarn(keys, divisor, original, magnitude)
    if kind not in ("linear", "none"):
        raise keys.refuse(f"{_SCALING}.type", "that scaling of positions is not supported")
    if magnitude != 1:
        raise keys.refuse(f"{_SCALING}.attn_factor", f"with {kind} scaling it is not supported")
    if kind == "none" or divisor == 1:
        return found | {"rope_type": "default"}
    return found | {"rope_type": "linear", "factor": divisor}


def _yarn(keys: ArchitectureKeys, factor: float, original: int, magnitude: float) -> dict[str, Any]:
    if keys.number(f"{_SCALING}.yarn_ext_factor", 1.0) != 1:
        raise keys.refuse(f"{_SCALING}.yarn_ext_factor", "only 1 is supported")
    least = keys.number(f"{_SCALING}.yarn_log_multiplier", 0.0)
    by_length = _yarn_magnitude(factor, 1.0) / (_yarn_magnitude(factor, least) if least else 1.0)
    return {
        "rope_type": "yarn",
        "factor": factor,
        "original_max_position_embeddings": original,
        # The converter writes a model's own attention factor here, which replaces the computed one
        "attention_factor": keys.number(f"{_SCALING}.yarn_attn_factor", by_length * magnitude),
        "beta_fast": keys.number(f"{_SCALING}.yarn_beta_fast", 32.0),
        "beta_slow": keys.number(f"{_SCALING}.yarn_beta_slow", 1.0),
    }


def _yarn_magnitude(factor: float, weight: float) -> float:
    return 1.0 if factor <= 1 else 0.1 * weight * math.log(factor) + 1.0


def _longrope(factors: dict[str, list[float]], context: int, original: int, magnitude: float) -> dict[str, Any]:
    return {
        "rope_type": "longrope",
        "factor": max(context / original, 1.0),
        "original_max_position_embeddings": original,
        "attention_factor": magnitude,
        **factors,
    }


def _frequencies(factors: list[float], theta: float, dims: int, context: int, original: int) -> dict[str, Any]:
    """Divisors of the frequencies: Llama 3's form if it gives these factors, else a list."""
    if all(factor == 1 for factor in factors):
        return {"rope_type": "default"}
    llama = {"rope_type": "llama3", "factor": max(factors), **_LLAMA_3}
    if np.allclose(_llama_3_factors(llama, theta, dims), factors, rtol=1e-6, atol=0):
        return llama
    return _longrope({"long_factor": factors, "short_factor": factors}, context, original, 1.0)


def _llama_3_factors(parameters: dict[str, Any], theta: float, dims: int) -> np.ndarray:
    """Divisors of the frequencies by Llama 3.1's scaling (transformers, ``modeling_rope_utils``)."""
    low, high = parameters["low_freq_factor"], parameters["high_freq_factor"]
    turns = parameters["original_max_position_embeddings"] * theta ** (-np.arange(0, dims, 2) / dims) / (2 * math.pi)
    smooth = np.clip((turns - low) / (high - low), 0, 1)
    factors: np.ndarray = 1 / ((1 - smooth) / parameters["factor"] + smooth)
    return factors


def _factors(model: GgufModel, name: str, dims: int) -> list[float]:
    tensor = model.tensors.get(name)
    if tensor is None:
        raise corrupt(model.path, f"it lacks {name!r}, which its scaling of positions needs")
    if tensor.shape != (dims // 2,) or dims // 2 > _MOST_FACTORS:
        raise corrupt(model.path, f"{name!r} has the shape {tensor.shape} for {dims // 2} frequencies")
    values = read_vector(tensor)
    if not np.isfinite(values).all() or (values <= 0).any():
        raise corrupt(model.path, f"{name!r} contains values that are not positive numbers")
    # The shortest decimals that equal these 32-bit numbers, as in the model's config
    return [float(np.format_float_positional(value)) for value in values]


def read_vector(tensor: StoredTensor) -> np.ndarray:
    """A short one-dimensional tensor in 32-bit floating point."""
    with tensor.path.open("rb") as stream:
        stream.seek(tensor.offset)
        data = np.frombuffer(stream.read(tensor.size), np.uint8)
    values: np.ndarray = dequantize(data, tensor.format).astype(np.float32)
    return values

"""Checks of config numbers for scales, norms and rotary positions: a wrong one gives wrong logits without an error."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

from transformers import PretrainedConfig
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

_POSITIVE = (
    "query_pre_attn_scalar", "attn_logit_softcapping", "final_logit_softcapping",  # Gemma
    "attention_multiplier", "embedding_multiplier", "residual_multiplier", "logits_scaling",  # Granite
)  # fmt: skip
_NOT_NEGATIVE = ("rms_norm_eps", "layer_norm_eps", "layer_norm_epsilon")
_DROPOUTS = (
    "attention_dropout", "attn_pdrop", "resid_pdrop", "embd_pdrop", "hidden_dropout", "dropout", "activation_dropout",
    "layerdrop",
)  # fmt: skip
_ROTARY = (
    "rope_theta", "factor", "attention_factor", "beta_fast", "beta_slow", "low_freq_factor", "high_freq_factor",
    "original_max_position_embeddings", "partial_rotary_factor", "long_factor", "short_factor",
)  # fmt: skip
_FACTOR_LISTS = ("long_factor", "short_factor")


_FULL, _SLIDING = "full_attention", "sliding_attention"
_PARTLY_ROTATED = ("gpt_neox", "phi3")
"""Families whose layers can rotate a part of each head with scaled positions."""
_ROTATES_WHOLE_HEADS = ("default", "proportional")
"""Types of rotary positions whose tables cover whole heads in the other families, whatever part is named."""


def unsupported_feature(config: PretrainedConfig) -> str | None:
    """Description of a feature that every family's class reads, and only some compute; ``None`` if there is none."""
    for kind in getattr(config, "layer_types", None) or ():
        if kind not in (_FULL, _SLIDING):
            return f"layers of the type {kind!r} (layer_types)"
    if config.model_type.removeprefix("qpruner_") in _PARTLY_ROTATED:
        return None
    for rotary in _rotary_parameters(config):
        kind, share = rotary.get("rope_type") or "default", rotary.get("partial_rotary_factor")
        if share not in (None, 1) and kind not in _ROTATES_WHOLE_HEADS:
            return f"rotary positions of the type {kind!r} on a part of each head (partial_rotary_factor {share!r})"
    return None


def wrong_number(config: PretrainedConfig) -> str | None:
    """Description of the first impossible number in ``config``, or ``None``.

    A base or factor of rotary positions of 0, for instance, gives infinite frequencies, and a negative epsilon gives
    the root of a negative number.
    """
    for name in (*_POSITIVE, *_NOT_NEGATIVE, *_DROPOUTS):
        value = getattr(config, name, None)
        if value is None:
            continue
        if not _is_finite(value) or value < 0 or (name in _POSITIVE and value == 0):
            return f"{name} is {value!r}, which is not a {'positive' if name in _POSITIVE else 'possible'} number"
        if name in _DROPOUTS and value >= 1:
            return f"{name} is {value!r}, which is not less than 1"
    if _SLIDING in (getattr(config, "layer_types", None) or ()) and getattr(config, "sliding_window", None) is None:
        return f"sliding_window is null, but layer_types has layers of the type {_SLIDING!r}"
    for rotary in _rotary_parameters(config):
        wrong = _wrong_rotary(rotary, config)
        if wrong is not None:
            return wrong
    return None


def _rotary_parameters(config: PretrainedConfig) -> Iterator[Mapping[str, Any]]:
    """The rotary parameters of ``config``: one set, or one for each kind of layer."""
    found = getattr(config, "rope_parameters", None)
    if not isinstance(found, Mapping):
        return
    by_layer_type = [value for value in found.values() if isinstance(value, Mapping)]
    yield from by_layer_type or [found]


def _wrong_rotary(rotary: Mapping[str, Any], config: PretrainedConfig) -> str | None:
    kind = rotary.get("rope_type") or "default"
    if kind != "default" and kind not in ROPE_INIT_FUNCTIONS:
        return f"rope_type of its rotary positions is {kind!r}, which transformers does not know"
    for name in _ROTARY:
        value = rotary.get(name)
        for one in value if name in _FACTOR_LISTS and isinstance(value, list) else [value]:
            if one is not None and not (_is_finite(one) and one > 0):
                return f"{name} of its rotary positions is {one!r}, which is not a positive number"
    share = rotary.get("partial_rotary_factor") or 1.0
    if share > 1:
        return f"partial_rotary_factor of its rotary positions is {share!r}, more than whole heads"
    if rotary.get("rope_type") != "longrope":
        return None
    width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    wanted = int(width * share) // 2
    for name in _FACTOR_LISTS:
        value = rotary.get(name)
        if not isinstance(value, list) or len(value) != wanted:  # one factor would be used for all frequencies
            return f"{name} of its rotary positions is not a list of {wanted} numbers, one per frequency"
    return None


def _is_finite(value: object) -> bool:
    return not isinstance(value, bool) and isinstance(value, int | float) and math.isfinite(value)

"""Number of tokens that a model reads in one sequence."""

from __future__ import annotations

import math
from collections.abc import Mapping

from transformers import PretrainedConfig

from qpruner_core.errors import InvalidConfigError

_STRETCHED = ("linear", "dynamic", "yarn")
"""Kinds of RoPE scaling for which ``max_position_embeddings`` may be the length before scaling."""


def most_positions(config: PretrainedConfig) -> int | None:
    """Tokens of the longest sequence that a model with ``config`` reads, prompt and continuation together; ``None`` if
    unlimited.

    With learned positions (GPT-2, OPT) it is the size of their table. With rotary positions it is the length that the
    model was trained for, with its scaling: beyond it, predictions degrade without an error.
    ``max_position_embeddings`` counts neither OPT's two rows of padding, nor the gain of linear, dynamic or YaRN
    scaling, unless scaling is given by layer type (Gemma 3), or the number was raised with it; llama3 and longrope
    scaling are always included.
    """
    stated = getattr(config, "max_position_embeddings", None)
    if not isinstance(stated, int) or stated < 1:
        return None
    parameters = getattr(config, "rope_parameters", None)
    return max(stated, _stretched(parameters, stated)) if isinstance(parameters, Mapping) else stated


def _stretched(parameters: Mapping[str, object], stated: int) -> int:
    factor = parameters.get("factor")
    original = parameters.get("original_max_position_embeddings")
    known = parameters.get("rope_type") in _STRETCHED and isinstance(factor, int | float) and math.isfinite(factor)
    if not known or not isinstance(factor, int | float):
        return stated
    return int((original if isinstance(original, int) else stated) * factor)


def refuse_beyond_positions(config: PretrainedConfig, tokens: int, field: str, *, what: str) -> None:
    """Raise :class:`InvalidConfigError` for ``field`` if a model with ``config`` does not read ``tokens``.

    ``what``: the tokens, as the start of a sentence: "Windows of 4096 tokens".
    """
    positions = most_positions(config)
    if positions is not None and tokens > positions:
        raise InvalidConfigError(
            f"{what} exceed the model's limit of {positions} tokens.",
            field=field,
            remedy=f"Choose a smaller {field}, so that there are at most {positions} tokens.",
        )

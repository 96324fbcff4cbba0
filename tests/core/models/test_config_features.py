"""A config that a family cannot compute is refused when it is read, not in the first forward pass."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, PretrainedConfig

from qpruner_core.errors import CorruptModelError, UnsupportedArchitectureError, UserError
from qpruner_core.models.families import family_names
from qpruner_core.models.model_config import read_config
from tests.core.small_models import small_config

_LAYERS = 5
_SCALED = {"rope_theta": 1e4, "factor": 2.0}
FEATURES: list[tuple[dict[str, Any], str]] = [
    ({"layer_types": ["sliding_attention", *["full_attention"] * (_LAYERS - 1)], "sliding_window": None}, "window"),
    ({"layer_types": ["chunked_attention"] * _LAYERS}, "chunked_attention"),
    ({"layer_types": ["full_attention", *["linear_attention"] * (_LAYERS - 1)]}, "linear_attention"),
    ({"layer_types": ["full_attention"] * _LAYERS}, ""),
    ({"sliding_window": None}, "sliding_window"),
    ({"rope_parameters": {"rope_type": "linear", **_SCALED, "partial_rotary_factor": 0.5}}, "partial_rotary_factor"),
    ({"rope_parameters": {"rope_type": "dynamic", **_SCALED, "partial_rotary_factor": 0.5}}, "partial_rotary_factor"),
    ({"rope_parameters": {"rope_type": "linear", **_SCALED, "partial_rotary_factor": 1.0}}, ""),
    ({"rope_parameters": {"rope_type": "default", "rope_theta": 1e4, "partial_rotary_factor": 0.5}}, ""),
]  # fmt: skip


def _read(path: Path) -> tuple[PretrainedConfig | None, UserError | None]:
    try:
        return read_config(path), None
    except (CorruptModelError, UnsupportedArchitectureError) as error:
        return None, error


@pytest.mark.parametrize("changes", [changes for changes, _ in FEATURES], ids=str)
@pytest.mark.parametrize("model_type", family_names())
def test_what_is_read_can_be_computed(model_type: str, changes: dict[str, Any], tmp_path: Path) -> None:
    named = next(name for one, name in FEATURES if one is changes)
    values = small_config(model_type).to_dict()
    (tmp_path / "config.json").write_text(json.dumps(values | {"architectures": None} | changes))
    config, error = _read(tmp_path / "config.json")
    if error is not None:
        assert error.field == "model"
        assert error.remedy
        assert "validate_rope" in error.message or (named and named in error.message)  # transformers checks some itself
        return
    logits = AutoModelForCausalLM.from_config(config).eval()(torch.arange(3, 15)[None]).logits
    assert torch.isfinite(logits).all()

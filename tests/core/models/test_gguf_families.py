"""Every GGUF architecture and kind of rotary scaling gives the logits of the model that it was written from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import PreTrainedModel

from qpruner_core.errors import UnsupportedArchitectureError
from qpruner_core.models import inspect_model, load_model, resolve_model
from qpruner_core.models.families import family_names
from qpruner_core.models.gguf.architectures import ARCHITECTURES
from qpruner_core.source_policy import SourcePolicy
from tests.core.small_models import BIASED, small_model
from tests.gguf_files import NAMES, write_model

_ORIGINAL = 16
_LENGTH = 60
_PARTIAL = {"partial_rotary_factor": 0.5}
_LONG = {
    "rope_type": "longrope", "rope_theta": 10000.0, "original_max_position_embeddings": _ORIGINAL,
    "factor": 4.0, "short_factor": [1.0, 1.1], "long_factor": [1.5, 4.0],
}  # fmt: skip
_YARN = {
    "rope_type": "yarn", "rope_theta": 10000.0, "factor": 4.0, "original_max_position_embeddings": _ORIGINAL,
}  # fmt: skip
_LLAMA_3 = {
    "rope_type": "llama3", "rope_theta": 500000.0, "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
}  # fmt: skip

VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    "falcon 40B": ("falcon", {"new_decoder_architecture": True}),
    "falcon 11B": ("falcon", {"new_decoder_architecture": True, "num_ln_in_parallel_attn": 1}),
    "falcon 7B": ("falcon", {"new_decoder_architecture": False, "num_key_value_heads": 1}),
    "gemma2": ("gemma2", {"query_pre_attn_scalar": 8}),
    "gemma3": ("gemma3_text", {"query_pre_attn_scalar": 8}),
    "gemma3 with linear scaling": (
        "gemma3_text",
        {"query_pre_attn_scalar": 8, "rope_parameters": {
            "full_attention": {"rope_type": "linear", "factor": 8.0, "rope_theta": 1e6},
            "sliding_attention": {"rope_type": "default", "rope_theta": 10000.0},
        }},
    ),
    "gpt2": ("gpt2", {"tie_word_embeddings": True}),
    "gpt2 with a head": ("gpt2", {}),
    "gpt_neox": ("gpt_neox", {}),
    "gpt_neox in sequence": ("gpt_neox", {"use_parallel_residual": False}),
    "granite": ("granite", {}),
    "llama": ("llama", {}),
    "llama tied": ("llama", {"tie_word_embeddings": True}),
    "llama with biases": ("llama", BIASED),
    "llama linear": ("llama", {"rope_parameters": {"rope_type": "linear", "factor": 4.0, "rope_theta": 10000.0}}),
    "llama yarn": ("llama", {"rope_parameters": _YARN}),
    "llama yarn, own magnitude and betas": (
        "llama", {"rope_parameters": _YARN | {"attention_factor": 1.3, "beta_fast": 16.0, "beta_slow": 2.0}}
    ),
    "llama 3.1": ("llama", {"rope_parameters": _LLAMA_3 | {"original_max_position_embeddings": 8192}}),
    "llama 3.1 of another length": ("llama", {"rope_parameters": _LLAMA_3 | {
        "original_max_position_embeddings": _ORIGINAL, "high_freq_factor": 2.0}}),
    "llama longrope": ("llama", {"num_attention_heads": 12, "num_key_value_heads": 4, "rope_parameters": _LONG}),
    "olmo2": ("olmo2", {}),
    "phi3": ("phi3", {}),
    "phi3 longrope": ("phi3", {"original_max_position_embeddings": _ORIGINAL, "rope_parameters": _LONG | _PARTIAL}),
    "qwen2": ("qwen2", {"use_sliding_window": False}),
    "qwen3": ("qwen3", {"use_sliding_window": False}),
    "qwen3 yarn": ("qwen3", {"use_sliding_window": False, "rope_parameters": _YARN}),
    "qwen3_moe": ("qwen3_moe", {"mlp_only_layers": []}),
    "smollm3": ("smollm3", {"use_sliding_window": False, "no_rope_layers": None}),
}  # fmt: skip


def _source(family: str, **overrides: Any) -> PreTrainedModel:
    """A model in 32 bits whose weights are numbers of 16, and whose frequencies are not."""
    model = small_model(family, dtype=torch.float32, **overrides)
    for parameter in model.parameters():
        parameter.data = parameter.data.to(torch.bfloat16).float()
    return model


def _logits(model: PreTrainedModel, ids: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        logits: torch.Tensor = model(ids).logits
    return logits


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_logits_are_those_of_the_source(variant: str, tmp_path: Path, policy: SourcePolicy) -> None:
    family, overrides = VARIANTS[variant]
    source = _source(family, **overrides)
    path = write_model(source, tmp_path / "model.gguf")
    before = inspect_model(str(path), policy)
    converted = resolve_model(str(path), policy).directory
    assert inspect_model(str(converted), policy).tensors == before.tensors
    assert before.config.tie_word_embeddings == source.config.tie_word_embeddings
    found = load_model(converted, dtype=torch.float32)
    ids = torch.arange(_LENGTH).reshape(1, -1) % 90 + 3
    torch.testing.assert_close(_logits(found, ids), _logits(source, ids), rtol=1e-4, atol=1e-4)


def test_every_declared_architecture_is_tried_here() -> None:
    assert {NAMES[family] for family, _ in VARIANTS.values()} == set(ARCHITECTURES)
    assert set(family_names()) - set(NAMES) == {"mistral", "opt"}  # mistral is written as llama; opt cannot be


def test_scaling_that_is_llama_3s_is_said_as_such(tmp_path: Path, policy: SourcePolicy) -> None:
    _, overrides = VARIANTS["llama 3.1"]
    path = write_model(_source("llama", **overrides), tmp_path / "model.gguf")
    assert inspect_model(str(path), policy).config.rope_parameters == overrides["rope_parameters"]


@pytest.mark.parametrize(
    ("family", "values"),
    [
        ("llama", {"attention.scale": 0.5}),
        ("llama", {"attention.clamp_kqv": 8.0}),
        ("llama", {"attention.causal": False}),
        ("llama", {"expert_count": 4, "expert_used_count": 2}),
        ("llama", {"rope.dimension_count": 4}),
        ("llama", {"attention.value_length": 4}),
        ("llama", {"attention.head_count_kv": [3, 3, 3, 3, 1]}),
        ("llama", {"rope.scaling.type": "dynamic"}),
        ("llama", {"rope.scaling.attn_factor": 1.5}),
        ("llama", {"rope.scaling.type": "yarn", "rope.scaling.factor": 4.0, "rope.scaling.yarn_ext_factor": 0.5}),
        ("qwen2", {"attention.sliding_window": 8}),
        ("olmo2", {"attention.sliding_window": 8}),
        ("granite", {"rope.scaling.finetuned": False}),
        ("phi3", {"rope.scaling.type": "linear", "rope.scaling.factor": 4.0}),
        ("gemma2", {"rope.freq_base_swa": 500.0}),
        ("gemma3_text", {"attention.sliding_window_pattern": [True, False]}),
        ("qwen3_moe", {"expert_weights_scale": 2.5}),
        ("qwen3_moe", {"expert_gating_func": 2}),
    ],
)
def test_what_changes_the_logits_and_cannot_be_done_is_refused_by_name(
    family: str, values: dict[str, Any], tmp_path: Path, policy: SourcePolicy
) -> None:
    overrides = next(overrides for name, overrides in VARIANTS.values() if name == family)
    path = write_model(_source(family, **overrides), tmp_path / "model.gguf", values=values)
    with pytest.raises(UnsupportedArchitectureError) as caught:
        inspect_model(str(path), policy)
    assert any(f"{NAMES[family]}.{key}" in caught.value.message for key in values)
    assert "safetensors" in caught.value.remedy


def test_keys_that_say_not_used_and_one_value_for_each_layer_are_read(tmp_path: Path, policy: SourcePolicy) -> None:
    values = {
        "expert_count": 0, "attention.sliding_window": 0, "attention.causal": True, "vocab_size": 97,
        "feed_forward_length": [40] * 5, "attention.head_count_kv": [3] * 5,
    }  # fmt: skip
    path = write_model(_source("llama"), tmp_path / "model.gguf", values=values)
    assert inspect_model(str(path), policy).config.intermediate_size == 40

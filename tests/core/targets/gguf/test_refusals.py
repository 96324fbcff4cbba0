"""What llama.cpp cannot have is known from the config and the tokenizer alone, with the remedy."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from qpruner_core.errors import UnsupportedByTargetError
from qpruner_core.models.families import family_names, find_family
from qpruner_core.targets.gguf import loader_of, supports, supports_tokenizer, write_gguf
from tests.core.small_models import small_config
from tests.gguf_target import AS_LLAMA_CPP, DECI, DIFFERENT, config_of, pruned_config, random_model, widths
from tests.tiny_model import build_tokenizer

_NARROW = widths([4] * 5, [2] * 5, [24] * 5)


def test_every_family_but_opt_has_an_architecture() -> None:
    assert set(family_names()) - set(AS_LLAMA_CPP) == {"opt"}
    assert all(supports(config_of(family)) is None for family in AS_LLAMA_CPP)


def test_a_model_of_no_architecture_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    config = small_config("opt", vocab_size=300)
    refusal = supports(config)
    assert refusal is not None
    assert "no architecture for opt" in refusal.reason
    build_tokenizer(tmp_path)
    with pytest.raises(UnsupportedByTargetError, match="opt"):
        write_gguf(tmp_path / "model.gguf", config=config, weights={}, tokenizer_directory=tmp_path)
    assert not (tmp_path / "model.gguf").exists()


@pytest.mark.parametrize("family", [name for name in AS_LLAMA_CPP if name not in (*DECI, "gpt2", "gpt_neox")])
def test_layers_that_differ_are_refused_with_the_layout_that_works(family: str) -> None:
    old = find_family(family).widths(config_of(family))
    key = "num_experts" if old[0].num_experts else "intermediate_size"
    shape = [layer.model_copy(update={key: getattr(layer, key) - index % 2}) for index, layer in enumerate(old)]
    refusal = supports(pruned_config(family, shape))
    assert refusal is not None
    assert family in refusal.reason
    assert refusal.field == "prune.layout"
    assert '"stock"' in refusal.remedy


@pytest.mark.parametrize("family", ["falcon", "olmo2"])
def test_fewer_heads_than_fill_the_hidden_size_are_refused_where_the_loader_wants_all(family: str) -> None:
    refusal = supports(pruned_config(family, _NARROW))
    assert refusal is not None
    assert refusal.field == "prune.attention_unit"


@pytest.mark.parametrize("family", ["qwen2", "phi3"])
def test_fewer_heads_are_taken_as_a_model_whose_layers_may_differ(family: str) -> None:
    assert loader_of(pruned_config(family, _NARROW, **DECI[family])).name == "deci"


@pytest.mark.parametrize("family", ["qwen3", "gemma2", "gemma3_text", "smollm3", "falcon"])
def test_a_bias_without_a_place_is_refused_with_other_compensations(family: str) -> None:
    old = find_family(family).widths(config_of(family))
    refusal = supports(pruned_config(family, old, output_bias=True))
    assert refusal is not None
    assert refusal.field == "prune.compensation"
    assert '"refit"' in refusal.remedy


@pytest.mark.parametrize(
    ("family", "overrides", "why"),
    [
        ("llama", {"hidden_act": "relu"}, "relu"),
        ("llama", {"rope_parameters": {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 1e4}}, "dynamic"),
        (
            "llama",
            {"rope_parameters": {"rope_type": "yarn", "factor": 2.0, "rope_theta": 1e4, "truncate": False}},
            "truncate",
        ),
        ("qwen3", {"attention_bias": True}, "o_proj.bias"),
        ("gemma2", {"query_pre_attn_scalar": 24}, "24"),
        ("gemma2", {"tie_word_embeddings": False}, "head"),
        ("gpt_neox", {"attention_bias": False}, "biases"),
        ("olmo2", {"tie_word_embeddings": True}, "head"),
        ("qwen3_moe", {"mlp_only_layers": [3]}, "every layer"),
        ("qwen3_moe", {"norm_topk_prob": False}, "normalised"),
        ("smollm3", {"no_rope_layers": [1, 0, 1, 1, 0]}, "fourth"),
        ("falcon", {"alibi": True}, "rotary"),
        ("gpt2", {"scale_attn_weights": False}, "scale_attn_weights"),
        ("gpt2", {"scale_attn_by_inverse_layer_idx": True}, "scale_attn_by_inverse_layer_idx"),
    ],
)
def test_what_the_engine_computes_otherwise_is_refused(family: str, overrides: dict[str, Any], why: str) -> None:
    refusal = supports(config_of(family, **overrides))
    assert refusal is not None
    assert why in refusal.reason
    assert refusal.field == "target"


def test_positions_beyond_a_window_that_the_engine_does_not_know_are_not_offered() -> None:
    config = small_config("mistral", vocab_size=300)
    assert loader_of(config).keys(config)["context_length"] == config.sliding_window
    whole = config_of("mistral")
    assert loader_of(whole).keys(whole)["context_length"] == whole.max_position_embeddings


def test_a_tokenizer_with_more_tokens_than_the_embedding_has_rows_is_refused(tmp_path: Path) -> None:
    build_tokenizer(tmp_path)
    assert supports_tokenizer(tmp_path) is None
    assert supports_tokenizer(tmp_path, 400) is None
    refusal = supports_tokenizer(tmp_path, 200)
    assert refusal is not None
    assert "300 tokens" in refusal.reason


def test_a_tokenizer_that_splits_as_no_known_rule_does_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    build_tokenizer(tmp_path)
    path = tmp_path / "tokenizer.json"
    values = json.loads(path.read_text())
    values["pre_tokenizer"] = {"type": "Sequence", "pretokenizers": [
        {"type": "Split", "pattern": {"String": "e"}, "behavior": "Isolated", "invert": False}, values["pre_tokenizer"],
    ]}  # fmt: skip
    path.write_text(json.dumps(values))
    refusal = supports_tokenizer(tmp_path)
    assert refusal is not None
    assert "splitting" in refusal.reason
    model = random_model(config_of("llama"))
    weights = {name: parameter.data for name, parameter in model.named_parameters()}
    with pytest.raises(UnsupportedByTargetError):
        write_gguf(tmp_path / "model.gguf", config=model.config, weights=weights, tokenizer_directory=tmp_path)
    assert not (tmp_path / "model.gguf").exists()


def test_tokenizers_of_other_kinds_are_refused_by_name(tmp_path: Path) -> None:
    for kind in (models.WordPiece({"a": 0, "[UNK]": 1}), models.Unigram([("a", -1.0), ("<unk>", 0.0)], 1)):
        backend = Tokenizer(kind)
        backend.pre_tokenizer = pre_tokenizers.Whitespace()
        backend.decoder = decoders.WordPiece()
        PreTrainedTokenizerFast(tokenizer_object=backend).save_pretrained(tmp_path)
        refusal = supports_tokenizer(tmp_path)
        assert refusal is not None
        assert type(kind).__name__ in refusal.reason


def test_pruned_shapes_of_the_llamas_are_taken_as_they_are() -> None:
    for family in DECI:
        assert loader_of(pruned_config(family, DIFFERENT, **DECI[family])).name == "deci"
        assert supports(pruned_config(family, DIFFERENT, output_bias=True, **DECI[family])) is None

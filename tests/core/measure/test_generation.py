"""Generating: only weights and prompt decide, never the generation settings that came with a model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from peft import LoraConfig, get_peft_model
from tokenizers import decoders
from transformers import GenerationConfig, PreTrainedModel

from qpruner_core.errors import CorruptModelError, InvalidConfigError
from qpruner_core.measure.generation import _text_behind, continue_text, generate_greedily
from qpruner_core.models import load_model
from qpruner_core.models.checkpoint_writer import write_model
from qpruner_core.models.families import family_of
from tests.core.small_models import small_model
from tests.tiny_model import build_tokenizer

PROMPT = torch.tensor([5, 17, 3])
FORBIDDEN: dict[str, Any] = {
    "num_return_sequences": 3, "num_beams": 4, "num_beam_groups": 2, "do_sample": True, "temperature": 0.1,
    "stop_strings": ["a"], "penalty_alpha": 0.6, "top_k": 4, "dola_layers": "high", "cache_implementation": "static",
    "suppress_tokens": list(range(90)), "begin_suppress_tokens": list(range(90)), "forced_eos_token_id": 5,
    "forced_bos_token_id": 7, "eos_token_id": list(range(97)), "max_new_tokens": 1, "max_length": 4, "max_time": 1e-9,
    "min_length": 50, "repetition_penalty": 9.0, "no_repeat_ngram_size": 1, "guidance_scale": 3.0, "use_cache": False,
    "bad_words_ids": [[1], [2]], "sequence_bias": [[[3], 100.0]], "assistant_confidence_threshold": 0.1,
    "prompt_lookup_num_tokens": 3, "return_dict_in_generate": True, "output_scores": True, "watermarking_config": {},
    "constraints": ["x"], "num_assistant_tokens": 5, "custom_generate": "org/code", "token_healing": True,
}  # fmt: skip


@pytest.fixture(scope="module")
def model() -> PreTrainedModel:
    """A small model whose next token is never a close call."""
    model = small_model("llama", dtype=torch.float32)
    model.get_output_embeddings().weight.data *= 30
    return model


def by_hand(model: PreTrainedModel, prompt: torch.Tensor, count: int) -> list[int]:
    ids = prompt.tolist()
    for _ in range(count):
        with torch.no_grad():
            ids.append(int(model(torch.tensor([ids])).logits[0, -1].argmax()))
    return ids[len(prompt) :]


@settings(deadline=None, max_examples=25)
@given(names=st.sets(st.sampled_from(sorted(FORBIDDEN))))
def test_a_measurement_is_independent_of_the_models_generation_config(model: PreTrainedModel, names: set[str]) -> None:
    model.generation_config = GenerationConfig()
    for name in names:
        setattr(model.generation_config, name, FORBIDDEN[name])
    kept = model.generation_config
    assert generate_greedily(model, PROMPT, 6).tolist() == by_hand(model, PROMPT, 6)
    assert model.generation_config is kept


def test_every_setting_alone_changes_nothing(model: PreTrainedModel) -> None:
    expected = by_hand(model, PROMPT, 3)
    for name, value in FORBIDDEN.items():
        model.generation_config = GenerationConfig()
        setattr(model.generation_config, name, value)
        assert generate_greedily(model, PROMPT, 3).tolist() == expected


def test_nor_do_all_of_them_with_adapters(model: PreTrainedModel) -> None:
    expected = by_hand(model, PROMPT, 4)
    adapted = get_peft_model(small_model("llama", dtype=torch.float32), LoraConfig(task_type="CAUSAL_LM"))
    adapted.get_base_model().get_output_embeddings().weight.data *= 30
    base = adapted.get_base_model()
    base.generation_config = GenerationConfig()
    for name, value in FORBIDDEN.items():
        setattr(base.generation_config, name, value)
    assert generate_greedily(adapted, PROMPT, 4).tolist() == expected


def test_generation_settings_travel_byte_for_byte_and_are_not_taken_when_loading(tmp_path: Path) -> None:
    (tmp_path / "m").mkdir()
    build_tokenizer(tmp_path / "m")
    small_model("llama", dtype=torch.bfloat16).save_pretrained(tmp_path / "m")
    settings_file = tmp_path / "m" / "generation_config.json"
    settings_file.write_text(json.dumps(FORBIDDEN, indent=7))
    config = json.loads((tmp_path / "m" / "config.json").read_text())
    (tmp_path / "m" / "config.json").write_text(json.dumps(config | {"num_beams": 4, "temperature": 0.2}))

    loaded = load_model(tmp_path / "m")
    assert loaded.generation_config.num_beams in (None, 1)
    write_model(loaded, family_of(loaded), tmp_path / "out", tokenizer_from=tmp_path / "m")
    assert (tmp_path / "out" / "generation_config.json").read_bytes() == settings_file.read_bytes()


def test_a_text_goes_on_until_an_end_token(model: PreTrainedModel, tmp_path: Path) -> None:
    tokenizer = build_tokenizer(tmp_path)
    ids = tokenizer("a")["input_ids"]
    assert max(ids) < 97
    expected = by_hand(model, torch.tensor(ids), 5)
    assert continue_text(model, tokenizer, "a", 5) == tokenizer.decode(expected)
    model.config.eos_token_id = expected[0]
    assert continue_text(model, tokenizer, "a", 5) == tokenizer.decode(expected[:1], skip_special_tokens=True)
    model.config.eos_token_id = None


def test_the_first_space_behind_a_prompt_is_not_lost(tmp_path: Path) -> None:
    tokenizer = build_tokenizer(tmp_path)
    once, upon = (tokenizer(word)["input_ids"] for word in ("the", " statement"))
    assert _text_behind(tokenizer, once, upon) == " statement"
    stripping = decoders.Sequence([tokenizer.backend_tokenizer.decoder, decoders.Strip(" ", 1, 0)])
    tokenizer.backend_tokenizer.decoder = stripping  # as those of Llama 2's kind are
    assert tokenizer.decode(upon) == "statement"
    assert _text_behind(tokenizer, once, upon) == " statement"


def test_a_prompt_that_the_model_cannot_read_is_refused(model: PreTrainedModel, tmp_path: Path) -> None:
    tokenizer = build_tokenizer(tmp_path)
    with pytest.raises(InvalidConfigError, match="no tokens"):
        continue_text(model, tokenizer, "", 5)
    with pytest.raises(InvalidConfigError, match="exceed the model"):
        continue_text(model, tokenizer, "a", 64)
    with pytest.raises(CorruptModelError, match="embeddings for 97 tokens"):
        continue_text(model, tokenizer, "</s> the statement é", 5)

"""The tokenizer of a file is that of the model, in our reader and in llama.cpp."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx
import pytest
from tokenizers import normalizers
from transformers import PreTrainedTokenizerBase

from qpruner_core.models.gguf.split import read_model
from qpruner_core.models.gguf.splitting import HARD_TEXT
from qpruner_core.models.gguf.tokenizer import build_tokenizer as tokenizer_of_file
from qpruner_core.models.gguf.tokenizer import end_ids
from qpruner_core.targets.gguf import about_model, supports_tokenizer, write_gguf
from qpruner_core.targets.gguf.tokenizer import tokenizer_keys
from tests.core.targets.gguf.tokenizers import PRE_TOKENIZERS, byte_level, sentencepiece
from tests.engines import llama_cpp
from tests.gguf_target import config_of, random_model
from tests.tiny_model import CHAT_TEMPLATE, build_tokenizer, topic_paragraphs

_ASCII = HARD_TEXT.encode("ascii", "ignore").decode()
_TEXTS = [_ASCII, "", " a", "a ", "\n", "<s>twice</s>", "call <tool> now", *topic_paragraphs(20_000)]


def _texts(rule: str) -> list[str]:
    """Texts that the model and llama.cpp cut alike; Falcon's digits are found among the letters of bytes."""
    return _TEXTS if rule == "falcon" else [HARD_TEXT, *_TEXTS]


def _write(tokenizer: PreTrainedTokenizerBase, directory: Path, **metadata: Any) -> Path:
    model = random_model(config_of("llama", vocab_size=len(tokenizer) + 5, num_hidden_layers=1))
    path = directory / "model.gguf"
    weights = {name: parameter.data.half() for name, parameter in model.named_parameters()}
    write_gguf(path, config=model.config, weights=weights, tokenizer_directory=directory, metadata=metadata)
    return path


@pytest.mark.parametrize("rule", PRE_TOKENIZERS)
def test_the_rule_of_splitting_is_found_by_what_it_does(rule: str, tmp_path: Path) -> None:
    tokenizer = byte_level(tmp_path, PRE_TOKENIZERS[rule])
    assert tokenizer_keys(tmp_path)["tokenizer.ggml.pre"] == rule
    found = tokenizer_of_file(read_model(_write(tokenizer, tmp_path)))
    texts = _texts(rule)
    assert [found(text)["input_ids"] for text in texts] == [tokenizer(text)["input_ids"] for text in texts]


@pytest.mark.parametrize("rule", PRE_TOKENIZERS)
def test_llama_cpp_makes_the_same_tokens(rule: str, tmp_path: Path) -> None:
    tokenizer = byte_level(tmp_path, PRE_TOKENIZERS[rule], normalizer=normalizers.NFC() if rule == "qwen2" else None)
    path = _write(tokenizer, tmp_path)
    texts = _texts(rule)
    assert llama_cpp.tokenize(path, texts) == [tokenizer(text)["input_ids"] for text in texts]


@pytest.mark.parametrize("prefix", [True, False])
def test_scores_say_which_pair_llama_cpp_merges_first(prefix: bool, tmp_path: Path) -> None:
    tokenizer = sentencepiece(tmp_path, prefix=prefix)
    keys = tokenizer_keys(tmp_path)
    assert keys["tokenizer.ggml.model"] == "llama"
    assert keys["tokenizer.ggml.add_space_prefix"] == prefix
    path = _write(tokenizer, tmp_path)
    texts = [text for text in (HARD_TEXT.replace("<", "("), *_TEXTS) if text.strip() and "<" not in text]
    assert llama_cpp.tokenize(path, texts) == [tokenizer(text)["input_ids"] for text in texts]


def test_what_belongs_to_chats_is_in_the_file(tmp_path: Path) -> None:
    tokenizer = build_tokenizer(tmp_path)
    settings = {"eos_token_id": [tokenizer.eos_token_id, 7], "temperature": 0.6, "top_k": 20, "do_sample": True}
    (tmp_path / "generation_config.json").write_text(json.dumps(settings))
    about = about_model("tiny", source="dense", pruned="A quarter of the MLP.", recipe="ab" * 32)
    model = read_model(_write(tokenizer, tmp_path, **about))
    found = model.metadata
    assert found["tokenizer.chat_template"] == CHAT_TEMPLATE
    assert (found["tokenizer.ggml.bos_token_id"], found["tokenizer.ggml.padding_token_id"]) == (1, 0)
    assert found["tokenizer.ggml.add_bos_token"] is False
    assert end_ids(model) == sorted([tokenizer.eos_token_id, 7])
    assert (found["general.sampling.temp"], found["general.sampling.top_k"]) == (0.6, 20)
    assert (found["general.name"], found["general.base_model.0.name"]) == ("tiny", "dense")
    assert found["qpruner.recipe_sha256"] == "ab" * 32
    assert found["qpruner.model_type"] == "llama"
    built = tokenizer_of_file(model)
    assert built.chat_template == CHAT_TEMPLATE
    assert (built.bos_token, built.eos_token, built.pad_token) == ("<s>", "</s>", "<pad>")


@pytest.mark.parametrize("names", [["default", "tool_use", "rag-2"], ["tool_use"]])
def test_every_chat_template_is_in_the_file_under_its_name(names: list[str], tmp_path: Path) -> None:
    tokenizer = build_tokenizer(tmp_path)
    (tmp_path / "chat_template.jinja").unlink()
    tokenizer.chat_template = {name: f"{name}: {CHAT_TEMPLATE}" for name in names}
    tokenizer.save_pretrained(tmp_path)
    model = read_model(_write(tokenizer, tmp_path))
    # Letters and digits alone, as gguf-py has it
    wanted = {name.replace("-", "_"): template for name, template in tokenizer.chat_template.items()}
    assert model.metadata["tokenizer.chat_templates"] == sorted(set(wanted) - {"default"})
    assert tokenizer_of_file(model).chat_template == wanted


def test_llama_server_finds_the_template_for_tools(tmp_path: Path) -> None:
    tokenizer = build_tokenizer(tmp_path)
    tokenizer.chat_template = {"default": CHAT_TEMPLATE, "tool_use": f"Tools.{CHAT_TEMPLATE}"}
    tokenizer.save_pretrained(tmp_path)
    with llama_cpp.server(_write(tokenizer, tmp_path)) as address:
        found = httpx.get(f"{address}/props").json()
    assert found["chat_template"].strip() == CHAT_TEMPLATE.strip()
    assert found["chat_template_tool_use"].strip() == f"Tools.{CHAT_TEMPLATE}".strip()


def test_rows_of_the_embedding_without_a_token_are_named_and_unused(tmp_path: Path) -> None:
    build_tokenizer(tmp_path)
    keys = tokenizer_keys(tmp_path, 303)
    assert keys["tokenizer.ggml.tokens"][-3:] == ["[PAD300]", "[PAD301]", "[PAD302]"]
    assert keys["tokenizer.ggml.token_type"][-3:] == [5, 5, 5]
    assert supports_tokenizer(tmp_path, 303) is None


def test_greedy_sampling_is_no_default_of_the_file(tmp_path: Path) -> None:
    tokenizer = build_tokenizer(tmp_path)
    (tmp_path / "generation_config.json").write_text(json.dumps({"do_sample": False, "temperature": 0.6}))
    found = read_model(_write(tokenizer, tmp_path)).metadata
    assert not any(key.startswith("general.sampling") for key in found)

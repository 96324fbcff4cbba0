"""A file of ours in ``llama-server`` answers a chat as the model that is read back does."""

from __future__ import annotations

from pathlib import Path

import httpx
import torch
from transformers import PreTrainedTokenizerBase

from qpruner_core.models import load_tokenizer
from qpruner_core.targets.gguf import read_gguf
from tests.engines import llama_cpp
from tests.gguf_target import DIFFERENT, pruned_config, random_model, write

_CHAT = [{"role": "user", "content": "What is a lambda?"}]


def _ids(tokenizer: PreTrainedTokenizerBase) -> list[int]:
    text = tokenizer.apply_chat_template(_CHAT, add_generation_prompt=True, tokenize=False)
    return list(tokenizer(text)["input_ids"])


def test_a_pruned_model_with_layers_that_differ_answers_a_chat(tmp_path: Path) -> None:
    config = pruned_config("llama", DIFFERENT, max_position_embeddings=128, num_hidden_layers=5)
    path = write(random_model(config), tmp_path / "model.gguf")
    tokenizer = load_tokenizer(tmp_path / "tokenizer")
    request = {"messages": _CHAT, "max_tokens": 12, "temperature": 0, "logprobs": True, "top_logprobs": 1}
    with llama_cpp.server(path) as address:
        answer = httpx.post(f"{address}/v1/chat/completions", json=request, timeout=60)
    assert answer.status_code == 200, answer.text
    choice = answer.json()["choices"][0]
    chosen = [one["id"] for one in choice["logprobs"]["content"]]
    ids = _ids(tokenizer)
    assert answer.json()["usage"]["prompt_tokens"] == len(ids)
    with torch.no_grad():
        logits = read_gguf(path, dtype=torch.float32)(torch.tensor([ids + chosen])).logits[0, len(ids) - 1 : -1]
    found = logits.gather(1, torch.tensor(chosen)[:, None]).flatten()
    assert (logits.max(-1).values - found).max() < 0.05  # near ties may turn

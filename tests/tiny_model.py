"""Real, tiny parts for tests: a Llama with its own tokenizer and a text dataset, from what Python itself carries."""

from __future__ import annotations

import re
from pathlib import Path
from pydoc_data.topics import topics
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{{ '<|' + message['role'] + '|>' + message['content'] + eos_token }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)
_VOCABULARY = 300


def topic_paragraphs(max_bytes: int = 200_000) -> list[str]:
    """Paragraphs of prose from ``pydoc_data.topics``, together at most ``max_bytes`` bytes."""
    paragraphs: list[str] = []
    size = 0
    for name in sorted(topics):
        for block in re.split(r"\n\s*\n", topics[name]):
            paragraph = " ".join(block.split())
            if len(paragraph) < 40 or set(paragraph) <= set("*=-~ "):
                continue
            size += len(paragraph.encode()) + 2
            if size > max_bytes:
                return paragraphs
            paragraphs.append(paragraph)
    return paragraphs


def write_text_dataset(path: Path, *, max_bytes: int = 200_000) -> Path:
    """Write about ``max_bytes`` bytes of prose to ``path``, paragraphs apart by an empty line."""
    path.write_text("\n\n".join(topic_paragraphs(max_bytes)) + "\n", encoding="utf-8")
    return path


def build_tokenizer(directory: Path, *, chat_template: str | None = CHAT_TEMPLATE) -> PreTrainedTokenizerFast:
    """Train a byte-level BPE tokenizer of 300 tokens and save it to ``directory``."""
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=_VOCABULARY,
        special_tokens=["<pad>", "<s>", "</s>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    backend.train_from_iterator(topic_paragraphs(), trainer)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend, pad_token="<pad>", bos_token="<s>", eos_token="</s>", model_max_length=512
    )
    if chat_template is not None:
        tokenizer.chat_template = chat_template
    tokenizer.save_pretrained(directory)
    return tokenizer


def build_tiny_llama(directory: Path, *, seed: int = 0, train_steps: int = 100, **config_overrides: Any) -> Path:
    """Write a Llama of about 250,000 parameters and its tokenizer to ``directory``; ready in a few seconds.

    ``train_steps`` short optimiser steps on prose give its weights some meaning; 0 leaves them random.
    ``config_overrides`` go to :class:`LlamaConfig`. Same arguments, same bytes.
    """
    directory.mkdir(parents=True, exist_ok=True)
    tokenizer = build_tokenizer(directory)
    settings: dict[str, Any] = {
        "vocab_size": len(tokenizer), "hidden_size": 64, "num_hidden_layers": 6, "num_attention_heads": 4,
        "num_key_value_heads": 2, "intermediate_size": 128, "max_position_embeddings": 512,
        "tie_word_embeddings": True, "pad_token_id": tokenizer.pad_token_id, "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id, "attention_dropout": 0.0,
    }  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = LlamaForCausalLM(LlamaConfig(**(settings | config_overrides)))
        _train(model, tokenizer, train_steps)
    model.to(torch.bfloat16).save_pretrained(directory)
    return directory


def _train(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, steps: int) -> None:
    if steps == 0:
        return
    text = "\n\n".join(topic_paragraphs(100_000))
    tokens = torch.tensor(tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"])
    windows = tokens[: len(tokens) // 64 * 64].view(-1, 64)
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
    model.train()
    for _ in range(steps):
        batch = windows[torch.randint(len(windows), (16,))]
        loss = model(input_ids=batch, labels=batch, use_cache=False).loss
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    model.eval()

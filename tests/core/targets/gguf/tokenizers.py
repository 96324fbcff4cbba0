"""Tokenizers of the kinds that models have, trained on a little prose."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from tests.tiny_model import topic_paragraphs

_ALPHABET = pre_tokenizers.ByteLevel.alphabet()
_GPT_2_SPLIT = pre_tokenizers.ByteLevel(add_prefix_space=False)


def _split(expression: str) -> Any:
    return pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(expression), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )


PRE_TOKENIZERS: dict[str, Any] = {
    "gpt-2": _GPT_2_SPLIT,
    "smollm": pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), _GPT_2_SPLIT]),
    "dbrx": _split(
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
        r"|\s+(?!\S)|\s+"
    ),
    "qwen2": _split(
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
        r"|\s+(?!\S)|\s+"
    ),
    "falcon": pre_tokenizers.Sequence(
        [
            pre_tokenizers.Punctuation("contiguous"),
            _GPT_2_SPLIT,
            pre_tokenizers.Digits(individual_digits=False),
            pre_tokenizers.Split(Regex("[0-9][0-9][0-9]"), "isolated"),
        ]
    ),
}
"""How models split text, as their own files say it -> what llama.cpp calls that."""


def byte_level(directory: Path, pre_tokenizer: Any, *, normalizer: Any = None) -> PreTrainedTokenizerFast:
    """A byte-level tokenizer of 600 tokens that begins texts with a token, saved to ``directory``."""
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizer
    backend.decoder = decoders.ByteLevel()
    if normalizer is not None:
        backend.normalizer = normalizer
    _train(backend, ["<pad>", "<s>", "</s>"], _ALPHABET)
    backend.post_processor = processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A <s> $B", special_tokens=[("<s>", 1)]
    )
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, bos_token="<s>", eos_token="</s>", pad_token="<pad>")
    tokenizer.add_tokens(["<tool>"])
    tokenizer.save_pretrained(directory)
    return tokenizer


def sentencepiece(directory: Path, *, prefix: bool = True) -> PreTrainedTokenizerFast:
    """A tokenizer as Llama 2 (``prefix``) and Gemma have it: spaces as letters, bytes for what has no token."""
    trained = Tokenizer(models.BPE(unk_token="<unk>"))
    trained.normalizer = normalizers.Sequence(
        [*([normalizers.Prepend("\u2581")] if prefix else []), normalizers.Replace(" ", "\u2581")]
    )
    trained.pre_tokenizer = pre_tokenizers.Split("\u2581", "merged_with_next")
    bytes_of_all = [f"<0x{value:02X}>" for value in range(256)]
    _train(trained, ["<unk>", "<s>", "</s>", *bytes_of_all], [])
    vocabulary = trained.get_vocab()
    # As transformers converts such files: every pair that makes a token, in the order of the tokens
    merges = [
        (token[:cut], token[cut:])
        for token in sorted(vocabulary, key=vocabulary.__getitem__)
        for cut in range(1, len(token))
        if token not in ("<unk>", "<s>", "</s>", *bytes_of_all) and {token[:cut], token[cut:]} <= vocabulary.keys()
    ]
    backend = Tokenizer(models.BPE(vocabulary, merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    backend.normalizer = trained.normalizer
    steps = [decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse()]
    backend.decoder = decoders.Sequence([*steps, *([decoders.Strip(" ", 1, 0)] if prefix else [])])
    backend.add_special_tokens(["<unk>", "<s>", "</s>"])
    backend.post_processor = processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A <s> $B", special_tokens=[("<s>", 1)]
    )
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, bos_token="<s>", eos_token="</s>", unk_token="<unk>")
    tokenizer.save_pretrained(directory)
    return tokenizer


def _train(backend: Tokenizer, special: list[str], alphabet: list[str]) -> None:
    trainer = trainers.BpeTrainer(
        vocab_size=600, special_tokens=special, initial_alphabet=alphabet, show_progress=False
    )
    backend.train_from_iterator(topic_paragraphs(60_000), trainer)

"""The tokenizer of a GGUF file, built as llama.cpp reads it.

A file holds the vocabulary and names the rule for splitting text; the rules themselves are part of llama.cpp
(``src/llama-vocab.cpp``). Another rule gives other tokens, so an unknown rule is rejected.
"""

from __future__ import annotations

import math
from typing import Any

from tokenizers import AddedToken, Tokenizer, decoders, normalizers, processors
from tokenizers.models import BPE
from transformers import PreTrainedTokenizerFast

from qpruner_core.errors import CorruptModelError, UnsupportedArchitectureError
from qpruner_core.models.gguf.header import LongArray, Scalar, corrupt, read_array
from qpruner_core.models.gguf.keys import ARCHITECTURE, AS_SAFETENSORS
from qpruner_core.models.gguf.split import GgufModel
from qpruner_core.models.gguf.splitting import RULES, Rule, splitter

_PREFIX = "tokenizer.ggml"
_CONTROL, _USER_DEFINED = 3, 4
_LONGEST_TOKEN = 512
"""Most characters of a token; the longest of known vocabularies, runs of spaces, have 128."""
_SPACE = "\u2581"
_ENDS = frozenset({
    "<|eot_id|>", "<|im_end|>", "<|end|>", "<|return|>", "<|call|>", "<|flush|>", "<|calls|>", "<end_of_turn>",
    "<|endoftext|>", "</s>", "<|eom_id|>", "<EOT>", "_<EOT>", "[EOT]", "[EOS]", "<|end_of_text|>",
    "<end_of_utterance>", "<eos>", "<turn|>", "<|tool_response>", "<｜end▁of▁sentence｜>", "[e~[",
})  # fmt: skip
"""Texts of tokens that llama.cpp (b11434) takes for control tokens whatever type the file gives them."""
_TEMPLATE = "tokenizer.chat_template"
_TURN_ENDS = ("eot", "eom")
_NAMED = {"bos_token": "bos", "eos_token": "eos", "unk_token": "unknown", "pad_token": "padding"}


def check_tokenizer(model: GgufModel) -> None:
    """Check what :func:`build_tokenizer` needs, without reading the vocabulary.

    Raises:
        CorruptModelError: the file has no tokenizer.
        UnsupportedArchitectureError: its kind or its splitting rule is not supported.
    """
    kind = _get(model, f"{_PREFIX}.model")
    if not isinstance(kind, str) or f"{_PREFIX}.tokens" not in model.metadata:
        raise corrupt(model.path, "it has no tokenizer", AS_SAFETENSORS)
    if kind == "gpt2":
        _rule(model)
        _count(model, "merges")
    elif kind != "llama":
        raise _unknown(f'a tokenizer of the kind "{kind}"', model)
    count = _count(model, "tokens")
    for name in ("token_type", "scores") if kind == "llama" else ("token_type",):
        if _count(model, name) != count:
            raise corrupt(model.path, f"its header has {count} tokens, but {_count(model, name)} of {_PREFIX}.{name}")
    for key in (*_NAMED.values(), *_TURN_ENDS):
        _special_id(model, key, count)
    for name in ("add_bos_token", "add_eos_token", "add_space_prefix"):
        _flag(model, name, False)


def build_tokenizer(model: GgufModel) -> PreTrainedTokenizerFast:
    """The tokenizer of ``model``, with its chat template and special tokens. Raises as :func:`check_tokenizer`."""
    check_tokenizer(model)
    tokens = [str(token) for token in _list(model, "tokens")]
    longest = max(tokens, key=len, default="")
    if len(longest) > _LONGEST_TOKEN:
        raise corrupt(model.path, f"it has a token of {len(longest)} characters, which is too long")
    try:
        backend = (
            _byte_level(model, tokens) if _get(model, f"{_PREFIX}.model") == "gpt2" else _sentencepiece(model, tokens)
        )
        backend.add_special_tokens(_added(model, tokens, _CONTROL))
        backend.add_tokens(_added(model, tokens, _USER_DEFINED))
    except CorruptModelError:
        raise
    except Exception as error:  # the library has one error type for all faults of a vocabulary
        raise corrupt(model.path, f"its tokenizer is inconsistent ({error})") from error
    named = {name: _token(model, tokens, key) for name, key in _NAMED.items()}
    backend.post_processor = _ends(model, named, tokens)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend, clean_up_tokenization_spaces=False,
        model_max_length=model.metadata.get(f"{model.metadata[ARCHITECTURE]}.context_length"),
        **{name: token for name, token in named.items() if token is not None},
    )  # fmt: skip
    templates = _templates(model)
    tokenizer.chat_template = templates["default"] if list(templates) == ["default"] else templates or None
    return tokenizer


def special_ids(model: GgufModel) -> dict[str, int]:
    """Ids of the beginning, end and padding of a text under config names, as far as the file has them."""
    names = {"bos_token_id": "bos", "eos_token_id": "eos", "pad_token_id": "padding"}
    found = {name: _get(model, f"{_PREFIX}.{key}_token_id") for name, key in names.items()}
    return {name: value for name, value in found.items() if isinstance(value, int)}


def end_ids(model: GgufModel) -> list[int]:
    """Ids that end an answer: of the end of a text, and of a turn in chats."""
    count = _count(model, "tokens")
    found = [_special_id(model, key, count) for key in ("eos", *_TURN_ENDS)]
    return sorted({value for value in found if value is not None})


def _templates(model: GgufModel) -> dict[str, str]:
    """Chat templates by name: the one without a name is "default"."""
    found = {
        key.removeprefix(_TEMPLATE).removeprefix(".") or "default": value
        for key, value in model.metadata.items()
        if key == _TEMPLATE or key.startswith(f"{_TEMPLATE}.")
    }
    return {name: value for name, value in found.items() if isinstance(value, str)}


def _byte_level(model: GgufModel, tokens: list[str]) -> Tokenizer:
    rule = _rule(model)
    pairs = (str(merge).partition(" ") for merge in _list(model, "merges"))
    merges = [(left, right) for left, _, right in pairs]
    vocabulary = {token: index for index, token in enumerate(tokens)}
    backend = Tokenizer(BPE(vocab=vocabulary, merges=merges, ignore_merges=rule.whole_words))
    backend.pre_tokenizer = splitter(rule)
    backend.decoder = decoders.ByteLevel()
    return backend


def _sentencepiece(model: GgufModel, tokens: list[str]) -> Tokenizer:
    scores = [float(score) for score in _list(model, "scores")]
    if not all(math.isfinite(score) for score in scores):
        raise corrupt(model.path, "the scores of its tokens are not all finite")
    vocabulary = {token: index for index, token in enumerate(tokens)}
    unknown = _token(model, tokens, "unknown")
    backend = Tokenizer(
        BPE(
            vocab=vocabulary, merges=_merges(vocabulary, scores), unk_token=unknown, fuse_unk=True, byte_fallback=True
        )
    )  # fmt: skip
    spaces = normalizers.Replace(" ", _SPACE)
    prefixed = _flag(model, "add_space_prefix", True)
    backend.normalizer = normalizers.Sequence([normalizers.Prepend(_SPACE), spaces]) if prefixed else spaces
    steps: list[Any] = [decoders.Replace(_SPACE, " "), decoders.ByteFallback(), decoders.Fuse()]
    backend.decoder = decoders.Sequence([*steps, decoders.Strip(" ", 1, 0)] if prefixed else steps)
    return backend


def _merges(vocabulary: dict[str, int], scores: list[float]) -> list[tuple[str, str]]:
    """All pairs of tokens that form a token, in the order of its score: SentencePiece's merges."""
    found: list[tuple[float, int, tuple[str, str]]] = []
    for token, index in vocabulary.items():
        for cut in range(1, len(token)):
            left, right = token[:cut], token[cut:]
            if left in vocabulary and right in vocabulary:
                found.append((-scores[index], index, (left, right)))
    found.sort(key=lambda one: one[:2])
    return [pair for _, _, pair in found]


def _added(model: GgufModel, tokens: list[str], kind: int) -> list[AddedToken]:
    """Vocabulary tokens of a kind that is recognised in text before it is split."""
    # llama.cpp and Phi 3's own tokenizer drop the spaces after its special tokens, except for these
    strips = model.metadata[ARCHITECTURE] == "phi3" and _get(model, f"{_PREFIX}.model") == "llama"
    kept = ("<unk>", "<s>", "<|endoftext|>")
    types = _list(model, "token_type")
    return [
        AddedToken(token, normalized=False, special=kind == _CONTROL, rstrip=strips and token not in kept)
        for token, found in zip(tokens, types, strict=True)
        if token and (_CONTROL if token in _ENDS else found) == kind
    ]


def _ends(model: GgufModel, named: dict[str, str | None], tokens: list[str]) -> processors.TemplateProcessing:
    """Tokens before and after every text."""
    sentencepiece = _get(model, f"{_PREFIX}.model") == "llama"
    begins = _flag(model, "add_bos_token", sentencepiece or _rule(model).begins)
    ends = _flag(model, "add_eos_token", False)
    first, last = named["bos_token"] if begins else None, named["eos_token"] if ends else None
    around = [token for token in (first, last) if token is not None]
    before, after = [first] if first else [], [last] if last else []
    once, twice = ([*before, f"${text}", *after] for text in "AB")
    return processors.TemplateProcessing(
        single=once,
        pair=[*once, *twice],
        special_tokens=[(token, tokens.index(token)) for token in dict.fromkeys(around)],
    )


def _rule(model: GgufModel) -> Rule:
    name = _get(model, f"{_PREFIX}.pre") or "default"
    if not isinstance(name, str) or name not in RULES:
        raise _unknown(f'the rule "{name}" of splitting text', model)
    return RULES[name]


def _token(model: GgufModel, tokens: list[str], key: str) -> str | None:
    index = _special_id(model, key, len(tokens))
    return None if index is None else tokens[index]


def _special_id(model: GgufModel, key: str, count: int) -> int | None:
    """Id of a special token among ``count`` tokens, if the file names it."""
    index = _get(model, f"{_PREFIX}.{key}_token_id")
    if index is None:
        return None
    if not isinstance(index, int) or not 0 <= index < count:
        raise corrupt(model.path, f"{_PREFIX}.{key}_token_id is {index}, but it has {count} tokens")
    return index


def _flag(model: GgufModel, name: str, default: bool) -> bool:
    value = _get(model, f"{_PREFIX}.{name}")
    if value is None:
        return default
    if not isinstance(value, int) or value not in (0, 1):  # some writers store a flag as a number
        raise corrupt(model.path, f"{_PREFIX}.{name} is {value!r}, which is neither true nor false")
    return bool(value)


def _get(model: GgufModel, key: str) -> object:
    return model.metadata.get(key)


def _list(model: GgufModel, name: str) -> list[Scalar]:
    value = model.metadata.get(f"{_PREFIX}.{name}")
    if isinstance(value, LongArray):
        return read_array(value)
    if not isinstance(value, list):
        raise corrupt(model.path, f"its header has no list {_PREFIX}.{name}")
    return value


def _count(model: GgufModel, name: str) -> int:
    """Length of a list, without reading it."""
    value = model.metadata.get(f"{_PREFIX}.{name}")
    return value.count if isinstance(value, LongArray) else len(_list(model, name))


def _unknown(what: str, model: GgufModel) -> UnsupportedArchitectureError:
    return UnsupportedArchitectureError(
        f"{model.path.name} needs {what}, which is not supported.", field="model", remedy=AS_SAFETENSORS
    )

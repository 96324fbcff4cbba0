"""A tokenizer in GGUF's form: the vocabulary, the merges or scores, and the name of the splitting rule.

llama.cpp has the rules and procedures built in, so not every tokenizer can be expressed. To find out, the tokenizer
that llama.cpp will have is built (as ``models/gguf/tokenizer.py`` does for any file), and both are compared on hard
texts and on the vocabulary's own tokens.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from pydoc_data.topics import topics
from typing import Any, cast

from gguf.constants import TokenType
from transformers import PreTrainedTokenizerFast

from qpruner_core.errors import QPrunerError, UnsupportedByTargetError
from qpruner_core.models.checkpoint_writer import TEMPLATES, TRAVELLING_FILES
from qpruner_core.models.gguf.keys import ARCHITECTURE
from qpruner_core.models.gguf.split import GgufModel
from qpruner_core.models.gguf.splitting import FALCON, HARD_TEXT, name_of_rule
from qpruner_core.models.gguf.tokenizer import build_tokenizer
from qpruner_core.models.load import load_tokenizer
from qpruner_core.models.tokenizer_files import GENERATION_CONFIG
from qpruner_core.targets.gguf.refusal import Refusal

_PREFIX = "tokenizer.ggml"
_TEMPLATE = "tokenizer.chat_template"
_NOT_IN_A_NAME = re.compile("[^a-zA-Z0-9]")
_SPACE = "\u2581"
_MERGED_LAST = -1e6
_SAMPLING = {
    "temperature": "temp", "top_k": "top_k", "top_p": "top_p", "min_p": "min_p",
    "repetition_penalty": "penalty_repeat",
}  # fmt: skip
_SAMPLED_TOKENS = 1500
_TOPICS = ("lambda", "strings", "numbers")


def supports_tokenizer(directory: Path, vocabulary: int | None = None) -> Refusal | None:
    """Reason why a GGUF file cannot carry the tokenizer of ``directory``; ``None`` if it can.

    ``vocabulary``: rows of the model's embedding; default: the tokens of the tokenizer.
    """
    try:
        tokenizer_keys(directory, vocabulary)
    except UnsupportedByTargetError as error:
        return Refusal(error.message, error.remedy, error.field or "target")
    return None


def tokenizer_keys(directory: Path, vocabulary: int | None = None) -> dict[str, Any]:
    """The keys ``tokenizer.*`` of the tokenizer and chat template of ``directory``, for so many rows of an embedding.

    Raises:
        UnsupportedByTargetError: llama.cpp would split or merge text differently, or there are more tokens than rows.
        ModelNotFoundError, CorruptModelError: there is no readable tokenizer.
    """
    # Checked once for each state of the file: it takes a second for a large vocabulary
    files = [*(directory / name for name in TRAVELLING_FILES), *sorted((directory / TEMPLATES).glob("*.jinja"))]
    state = tuple((file.name, file.stat().st_mtime_ns, file.stat().st_size) for file in files if file.is_file())
    return dict(_checked_keys(directory, vocabulary, state))


def generation_keys(directory: Path, end: int | None) -> dict[str, Any]:
    """Keys of sampling settings and of tokens other than ``end`` that end an answer (``generation_config.json``).

    GGUF has keys for two of those: the end of a turn, and the end of a message.
    """
    path = directory / GENERATION_CONFIG
    values = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    keys: dict[str, Any] = {}
    if values.get("do_sample", True):
        for name, key in _SAMPLING.items():
            if isinstance(values.get(name), int | float):
                whole = name == "top_k"
                keys[f"general.sampling.{key}"] = int(values[name]) if whole else float(values[name])
    ends = values.get("eos_token_id")
    others = [one for one in ends if isinstance(one, int) and one != end] if isinstance(ends, list) else []
    for key, one in zip(("eot", "eom"), others, strict=False):
        keys[f"{_PREFIX}.{key}_token_id"] = one
    return keys


@lru_cache(maxsize=8)
def _checked_keys(directory: Path, vocabulary: int | None, state: object) -> dict[str, Any]:
    tokenizer = load_tokenizer(directory)
    if not isinstance(tokenizer, PreTrainedTokenizerFast):
        raise Refusal("GGUF cannot carry a tokenizer that is a separate program (it has no tokenizer.json).").error()
    parts = json.loads(tokenizer.backend_tokenizer.to_str())
    keys = _vocabulary_keys(tokenizer, vocabulary)
    if parts["model"].get("type") != "BPE":
        raise Refusal(f"GGUF cannot carry this model's tokenizer of the kind {parts['model'].get('type')!r}.").error()
    if parts["model"].get("byte_fallback"):
        keys |= _sentencepiece_keys(parts, keys)
    else:
        keys |= _byte_level_keys(tokenizer, parts)
    keys |= _special_keys(tokenizer) | _chat_template_keys(tokenizer.chat_template)
    _require_same(tokenizer, keys)
    return keys


def _vocabulary_keys(tokenizer: PreTrainedTokenizerFast, vocabulary: int | None) -> dict[str, Any]:
    """Tokens and their types; rows of the embedding without a token are named and never generated."""
    found = {index: token for token, index in tokenizer.get_vocab().items()}
    count = vocabulary or max(found) + 1
    if max(found) >= count:
        raise Refusal(
            f"The tokenizer has {max(found) + 1} tokens, but the model's embedding has {count} rows.",
            "Give the tokenizer that belongs to the model.", "model",
        ).error()  # fmt: skip
    added = tokenizer.added_tokens_decoder
    tokens, types = [], []
    for index in range(count):
        tokens.append(found.get(index, f"[PAD{index}]"))
        kind = TokenType.UNUSED if index not in found else TokenType.NORMAL
        if index in added:
            kind = TokenType.CONTROL if added[index].special else TokenType.USER_DEFINED
        types.append(int(kind))
    return {f"{_PREFIX}.tokens": tokens, f"{_PREFIX}.token_type": types}


def _byte_level_keys(tokenizer: PreTrainedTokenizerFast, parts: dict[str, Any]) -> dict[str, Any]:
    model = parts["model"]
    strange = [name for name in ("dropout", "continuing_subword_prefix", "end_of_word_suffix") if model.get(name)]
    kinds = {one.get("type") for one in _steps(parts.get("normalizer"), "normalizers")}
    strange += sorted(str(kind) for kind in kinds - {"NFC"})  # which llama.cpp ignores too
    if strange:
        raise _no_such(f"one with {strange[0]}")
    before = tokenizer.backend_tokenizer.pre_tokenizer
    rule = name_of_rule(before, whole_words=bool(model.get("ignore_merges"))) if before is not None else None
    if rule is None:
        raise _no_such("this rule of splitting text")
    merges = [one if isinstance(one, str) else " ".join(one) for one in model["merges"]]
    if any(merge.count(" ") != 1 for merge in merges):
        raise _no_such("merges of tokens with spaces")
    return {f"{_PREFIX}.model": "gpt2", f"{_PREFIX}.pre": rule, f"{_PREFIX}.merges": merges}


def _sentencepiece_keys(parts: dict[str, Any], known: dict[str, Any]) -> dict[str, Any]:
    """Scores in the order in which the merges first form each token, so that the best merge stays the same."""
    model = parts["model"]
    tokens: list[str] = known[f"{_PREFIX}.tokens"]
    types: list[int] = known[f"{_PREFIX}.token_type"]
    ranks: dict[str, int] = {}
    for rank, merge in enumerate(model["merges"]):
        ranks.setdefault("".join(merge.split(" ") if isinstance(merge, str) else merge), rank)
    scores = [-float(ranks[token]) if token in ranks else _MERGED_LAST for token in tokens]
    for index, token in enumerate(tokens):
        if token == model.get("unk_token"):
            types[index] = int(TokenType.UNKNOWN)
        elif len(token) == 6 and token.startswith("<0x") and types[index] == TokenType.NORMAL:
            types[index] = int(TokenType.BYTE)
    return {
        f"{_PREFIX}.model": "llama",
        f"{_PREFIX}.pre": "default",
        f"{_PREFIX}.scores": scores,
        f"{_PREFIX}.token_type": types,
        f"{_PREFIX}.add_space_prefix": _begins_with_space(parts),
    }


def _begins_with_space(parts: dict[str, Any]) -> bool:
    if any(one.get("type") == "Prepend" for one in _steps(parts.get("normalizer"), "normalizers")):
        return True
    spaces = [one for one in _steps(parts.get("pre_tokenizer"), "pretokenizers") if one.get("type") == "Metaspace"]
    return bool(spaces) and spaces[0].get("prepend_scheme", "always") != "never"


def _special_keys(tokenizer: PreTrainedTokenizerFast) -> dict[str, Any]:
    named = {"bos": "bos", "eos": "eos", "unk": "unknown", "pad": "padding"}
    keys: dict[str, Any] = {}
    for name, key in named.items():
        index = getattr(tokenizer, f"{name}_token_id")
        if isinstance(index, int):
            keys[f"{_PREFIX}.{key}_token_id"] = index
    plain, around = tokenizer("a", add_special_tokens=False)["input_ids"], tokenizer("a")["input_ids"]
    keys[f"{_PREFIX}.add_bos_token"] = around[:1] != plain[:1] and around[:1] == [tokenizer.bos_token_id]
    keys[f"{_PREFIX}.add_eos_token"] = around[-1:] != plain[-1:] and around[-1:] == [tokenizer.eos_token_id]
    return keys


def _chat_template_keys(templates: str | dict[str, str] | None) -> dict[str, Any]:
    """A chat template, or several by name as gguf-py writes them: the default one has no name in its key."""
    named = {"default": templates} if isinstance(templates, str) else templates or {}
    keys: dict[str, Any] = {}
    for name, template in sorted(named.items()):
        if name == "default":
            keys[_TEMPLATE] = template
        else:
            keys[f"{_TEMPLATE}.{_NOT_IN_A_NAME.sub('_', name)}"] = template
    others = [key.removeprefix(f"{_TEMPLATE}.") for key in keys if key != _TEMPLATE]
    return keys | ({f"{_TEMPLATE}s": others} if others else {})


def _require_same(tokenizer: PreTrainedTokenizerFast, keys: dict[str, Any]) -> None:
    """Reject a tokenizer that differs in llama.cpp."""
    metadata = {ARCHITECTURE: "llama", "llama.context_length": 2048, **keys}
    try:
        found = build_tokenizer(GgufModel((Path("tokenizer"),), metadata, {}))
    except QPrunerError as error:
        raise Refusal(f"The tokenizer cannot be carried by a GGUF file: {error.message}").error() from error
    ascii_alone = keys.get(f"{_PREFIX}.pre") == FALCON
    for text in _texts(tokenizer):
        if ascii_alone and not text.isascii():
            continue
        if found(text, verbose=False)["input_ids"] != tokenizer(text, verbose=False)["input_ids"]:
            raise _no_such(f"one that splits {text[:40]!r} like this one")


def _texts(tokenizer: PreTrainedTokenizerFast) -> Iterator[str]:
    yield from (HARD_TEXT, "a", " a", "a  b\n", *HARD_TEXT.split(" "))
    yield from (topics[name][:3000] for name in _TOPICS)
    step = max(1, len(tokenizer) // _SAMPLED_TOKENS)
    yield from tokenizer.batch_decode([[index] for index in range(0, len(tokenizer), step)])


def _steps(part: dict[str, Any] | None, name: str) -> list[dict[str, Any]]:
    if part is None:
        return []
    return cast("list[dict[str, Any]]", part[name]) if part.get("type") == "Sequence" else [part]


def _no_such(what: str) -> UnsupportedByTargetError:
    return Refusal(f"GGUF cannot carry this model's tokenizer: llama.cpp does not know {what}.").error()

"""llama.cpp's rules for splitting text before merging, and detection of a tokenizer's rule.

The rules are part of llama.cpp (``src/llama-vocab.cpp``), and a file names one. llama.cpp's converter detects them by a
hash of a tokenizer's output for one text; here a tokenizer has a rule if it splits a hard text at the same places.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from tokenizers import Regex, pre_tokenizers

_GPT_2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)"
_ENGLISH = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_REST = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_UPPER, _LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
_REST_WITH_SLASH = r"| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_LEAD = r"[^\r\n\p{L}\p{N}]?"


@dataclass(frozen=True)
class Rule:
    """Splitting of text before merging: one expression after the other, and two options of such tokenizers."""

    expressions: tuple[str, ...]
    begins: bool = False
    whole_words: bool = False


_LLAMA_3 = Rule((rf"{_ENGLISH}|{_LEAD}\p{{L}}+|\p{{N}}{{1,3}}{_REST}",), begins=True, whole_words=True)
_SMAUG = Rule(_LLAMA_3.expressions)
_QWEN_2 = Rule((rf"{_ENGLISH}|{_LEAD}\p{{L}}+|\p{{N}}{_REST}",))
_DIGITS = Rule((r"\p{N}", _GPT_2))
_TEKKEN = Rule(
    (rf"{_LEAD}{_UPPER}*{_LOWER}+|{_LEAD}{_UPPER}+{_LOWER}*|\p{{N}}{_REST_WITH_SLASH}",), begins=True, whole_words=True
)
_GPT_4O = Rule(
    (rf"{_LEAD}{_UPPER}*{_LOWER}+{_ENGLISH}?|{_LEAD}{_UPPER}+{_LOWER}*{_ENGLISH}?|\p{{N}}{{1,3}}{_REST_WITH_SLASH}",)
)
RULES: dict[str, Rule] = {
    "default": Rule((r"[\p{P}\$\+<=>\^~\|]+", _GPT_2, r"\p{N}+", "[0-9][0-9][0-9]")),
    "falcon": Rule((r"[\p{P}\$\+<=>\^~\|`]+", _GPT_2, "[0-9][0-9][0-9]")),
    **dict.fromkeys(("llama-bpe", "llama3", "llama-v3", "falcon3", "pixtral"), _LLAMA_3),
    **dict.fromkeys(("dbrx", "smaug-bpe", "chatglm-bpe"), _SMAUG),
    **dict.fromkeys(("qwen2", "deepseek-r1-qwen", "megrez", "stablelm2"), _QWEN_2),
    **dict.fromkeys(("gpt-2", "phi-2", "mpt", "olmo", "jais", "trillion", "granite-docling"), Rule((_GPT_2,))),
    **dict.fromkeys(("smollm", "starcoder", "refact", "command-r", "codeshell", "exaone", "minerva-7b"), _DIGITS),
    **dict.fromkeys(("gpt-4o", "llama4"), _GPT_4O),
    "tekken": _TEKKEN,
}  # fmt: skip
"""Each rule under all of its names; the first one is written."""

FALCON = "falcon"
_FALCON_STEPS = ("Punctuation", "ByteLevel", "Digits", "Split")
"""Falcon's rule. It looks for digits after bytes have become letters, some of which count as digits; llama.cpp does
not, so the two agree on ASCII only."""

HARD_TEXT = (
    "Hello, y'all! I'LL we've don't O'Neill 3 33 333 3333 33333 1,234.56 ½ ² ٣ a1b2c3\n \n\n \n\n\n \t \t\t \t\n  \n "
    "      leading\r\nwindows\r\n\r\n x=y+1; /* c */ //// .../...\n[0][1]{a:b}<|x|> `q` ~^$+=|<> ===== --- ___ ``` "
    "🚀 (normal) 😶\u200d🌫️ ✅ 🦙🦙 កាន់តែ ពិសេស ᚱᛇᚢ größer naïve café — “quotes” …日本語のテキスト "
    "我想在apple工作1314天～ 한국어 "
    "Привет ﷺ ǅ ʰa NASAisGood iPhoneX HTMLParser camelCaseWORD WORDs' 'S 'Re  two   three ''' four!? a\u200bb\u00a0c "
)


def splitter(rule: Rule) -> pre_tokenizers.PreTokenizer:
    """A pre-tokenizer that splits text by ``rule``, and writes the pieces in the letters of byte-level vocabularies."""
    splits: list[Any] = [pre_tokenizers.Split(Regex(expression), "isolated") for expression in rule.expressions]
    splits.append(pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False))
    return pre_tokenizers.Sequence(splits)


def name_of_rule(pre_tokenizer: pre_tokenizers.PreTokenizer, *, whole_words: bool) -> str | None:
    """Name of the rule by which ``pre_tokenizer`` splits, ``None`` if it matches no known rule of llama.cpp.

    ``whole_words``: whether a piece that is in the vocabulary as a whole is taken without merging.
    """
    pieces = pre_tokenizer.pre_tokenize_str(HARD_TEXT)
    names = [name for name, rule in RULES.items() if splitter(rule).pre_tokenize_str(HARD_TEXT) == pieces]
    if not names:
        steps = json.loads(pre_tokenizer.__getstate__()).get("pretokenizers", [])
        return FALCON if tuple(step["type"] for step in steps) == _FALCON_STEPS else None
    return next((name for name in names if RULES[name].whole_words == whole_words), names[0])

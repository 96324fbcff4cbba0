"""The tokenizer of a GGUF file splits and merges text as llama.cpp does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tokenizers import pre_tokenizers
from transformers import PreTrainedTokenizerFast

from qpruner_core.errors import CorruptModelError, UnsupportedArchitectureError
from qpruner_core.models.gguf.split import GgufModel
from qpruner_core.models.gguf.tokenizer import build_tokenizer, check_tokenizer, end_ids, special_ids

_ALPHABET = sorted(pre_tokenizers.ByteLevel.alphabet())
_BYTES = [f"<0x{byte:02X}>" for byte in range(256)]
_PIECES = ["\u2581", "a", "b", "c", "ab", "bc", "\u2581a", "<start>"]
_SENTENCEPIECE = ["<unk>", "<s>", "</s>", *_BYTES, *_PIECES]


def _model(kind: str, tokens: list[str], architecture: str = "llama", **values: Any) -> GgufModel:
    metadata: dict[str, Any] = {
        "general.architecture": architecture, f"{architecture}.context_length": 64, "tokenizer.ggml.model": kind,
        "tokenizer.ggml.tokens": tokens, "tokenizer.ggml.token_type": [1] * len(tokens),
    }  # fmt: skip
    metadata |= {f"tokenizer.ggml.{key}": value for key, value in values.items()}
    return GgufModel((Path("m.gguf"),), metadata, {})


def _byte_level(pre: str, **values: Any) -> GgufModel:
    digits = ["12", "23", "123", "\u0120a"]
    merges = ["1 2", "2 3", "12 3", "\u0120 a"]
    return _model("gpt2", [*_ALPHABET, *digits], **({"pre": pre, "merges": merges} | values))


def _sentencepiece(**values: Any) -> GgufModel:
    types = [2, 3, 3, *[6] * 256, *[1] * 7, 3]
    scores = [0.0] * 259 + [-9.0, -9.0, -9.0, -9.0, -2.0, -1.0, -3.0, 0.0]  # "bc" before "ab" before "▁a"
    ids = {"bos_token_id": 1, "eos_token_id": 2, "unknown_token_id": 0}
    return _model("llama", _SENTENCEPIECE, **({"scores": scores, "token_type": types} | ids | values))


@pytest.mark.parametrize(
    ("pre", "pieces"),
    [
        ("gpt-2", ["123", "123", "1", "\u0120a"]),
        ("smollm", ["1", "2", "3", "1", "2", "3", "1", "\u0120a"]),
        ("qwen2", ["1", "2", "3", "1", "2", "3", "1", "\u0120a"]),
        ("llama-bpe", ["123", "123", "1", "\u0120a"]),
    ],
)
def test_digits_are_split_as_the_files_rule_says(pre: str, pieces: list[str]) -> None:
    tokenizer = build_tokenizer(_byte_level(pre))
    ids = tokenizer("1231231 a", add_special_tokens=False)["input_ids"]
    assert tokenizer.convert_ids_to_tokens(ids) == pieces
    assert tokenizer.decode(ids) == "1231231 a"


def test_pairs_are_merged_by_score_and_unknown_text_is_written_in_bytes() -> None:
    tokenizer = build_tokenizer(_sentencepiece())
    ids = tokenizer("abc \u00e9")["input_ids"]
    assert tokenizer.convert_ids_to_tokens(ids) == ["<s>", "\u2581a", "bc", "\u2581", "<0xC3>", "<0xA9>"]
    assert tokenizer.decode(ids, skip_special_tokens=True) == "abc \u00e9"


def test_a_text_gets_a_leading_space_and_a_beginning_unless_the_file_says_no() -> None:
    plain = build_tokenizer(_sentencepiece(add_space_prefix=False, add_bos_token=False, add_eos_token=True))
    assert plain.convert_ids_to_tokens(plain("ab<start>")["input_ids"]) == ["ab", "<start>", "</s>"]
    assert "<start>" in plain.all_special_tokens or "<start>" in plain.get_added_vocab()


def test_the_ids_that_end_an_answer_are_those_of_a_text_and_of_a_turn() -> None:
    model = _sentencepiece(eot_token_id=266)
    assert end_ids(model) == [2, 266]
    assert special_ids(model) == {"bos_token_id": 1, "eos_token_id": 2}


@pytest.mark.parametrize(
    ("model", "what"),
    [
        (_byte_level("from-next-year"), "from-next-year"),
        (_model("bert", ["a"]), "bert"),
    ],
)
def test_a_tokenizer_of_an_unknown_kind_is_refused_by_name(model: GgufModel, what: str) -> None:
    with pytest.raises(UnsupportedArchitectureError, match=what):
        check_tokenizer(model)


@pytest.mark.parametrize(
    "model",
    [
        _sentencepiece(eos_token_id=9999),
        _sentencepiece(scores=[0.0]),
        _sentencepiece(token_type=[1]),
        _byte_level("gpt-2", merges=["x yz"]),
        _model("gpt2", ["a"], pre="gpt-2"),
    ],
    ids=["id beyond the tokens", "too few scores", "too few types", "a merge of no tokens", "no merges"],
)  # fmt: skip
def test_a_tokenizer_that_does_not_fit_together_is_refused(model: GgufModel) -> None:
    with pytest.raises(CorruptModelError):
        build_tokenizer(model)


@pytest.mark.parametrize(
    "model",
    [
        _byte_level("gpt-2", token_type=[1]), _byte_level("gpt-2", merges=None), _byte_level("gpt-2", bos_token_id=999),
        _sentencepiece(scores=[0.0]), _sentencepiece(scores=None), _sentencepiece(padding_token_id=10**9),
        _sentencepiece(eot_token_id=99999), _sentencepiece(eom_token_id=-1), _sentencepiece(add_bos_token=2),
        _sentencepiece(add_eos_token="no"), _sentencepiece(add_space_prefix=1.0),
    ],
)  # fmt: skip
def test_lists_of_wrong_lengths_and_ids_beyond_the_tokens_show_before_the_vocabulary_is_read(model: GgufModel) -> None:
    with pytest.raises(CorruptModelError, match=r"tokenizer\.ggml\."):
        check_tokenizer(model)


def test_a_token_whose_parts_would_take_without_end_to_try_is_refused() -> None:
    tokens = [*_SENTENCEPIECE, "a" * 1_000_000]
    model = _model("llama", tokens, scores=[0.0] * len(tokens))
    with pytest.raises(CorruptModelError, match="1000000 characters"):
        build_tokenizer(model)


def test_scores_that_are_no_numbers_are_refused() -> None:
    with pytest.raises(CorruptModelError, match="scores"):
        build_tokenizer(_sentencepiece(scores=[float("nan")] * len(_SENTENCEPIECE)))


@pytest.mark.parametrize("kind", [1, 3, 4, 5])
@pytest.mark.parametrize(
    "end", ["<|im_end|>", "<end_of_turn>", "<|eot_id|>", "<|end|>", "<EOT>", "[EOT]", "<｜end▁of▁sentence｜>"]
)
def test_the_end_of_a_turn_is_one_token_whatever_its_type(end: str, kind: int) -> None:
    """As in llama.cpp's llama-vocab.cpp."""
    types = [2, 3, 3, *[6] * 256, *[1] * 7, kind]
    piecewise = build_tokenizer(_model(
        "llama", [*_SENTENCEPIECE[:-1], end], scores=[0.0] * len(_SENTENCEPIECE), token_type=types,
        unknown_token_id=0, add_bos_token=False,
    ))  # fmt: skip
    tokens = [*_ALPHABET, "12", end]
    bytewise = build_tokenizer(
        _model("gpt2", tokens, pre="gpt-2", merges=["1 2"], token_type=[*[1] * (len(tokens) - 1), kind])
    )
    for tokenizer in (piecewise, bytewise):
        ids = tokenizer(f"a{end}b")["input_ids"]
        assert tokenizer.convert_ids_to_tokens(ids).count(end) == 1
        assert tokenizer.decode(ids, skip_special_tokens=True).replace(" ", "") == "ab"


@pytest.mark.parametrize(("value", "begins"), [(True, True), (1, True), (False, False), (0, False)])
def test_a_flag_may_be_a_number(value: int, begins: bool) -> None:
    ids = build_tokenizer(_sentencepiece(add_bos_token=value))("a")["input_ids"]
    assert (ids[0] == 1) == begins


@pytest.mark.parametrize("names", [[], [""], ["", ".tool_use"], [".tool_use", ".rag"]])
def test_every_chat_template_is_read_under_its_name(names: list[str], tmp_path: Path) -> None:
    model = _sentencepiece()
    model.metadata.update({f"tokenizer.chat_template{name}": f"template{name}" for name in names})
    model.metadata["tokenizer.chat_templates"] = ["tool_use"]
    wanted = {name.removeprefix(".") or "default": f"template{name}" for name in names}
    build_tokenizer(model).save_pretrained(tmp_path)
    found = PreTrainedTokenizerFast.from_pretrained(tmp_path).chat_template
    assert (found if isinstance(found, dict) or found is None else {"default": found}) == (wanted or None)

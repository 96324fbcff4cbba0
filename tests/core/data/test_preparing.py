"""Splitting and tokenizing: what is learned, what is held out, and that the two never meet."""

from __future__ import annotations

import random
from datetime import date
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import PreTrainedTokenizerBase

from qpruner_core import parse_config
from qpruner_core.data import Example, PreparedData, TextDataset, prepare_data, read_dataset
from qpruner_core.data.records import (
    ChoicesRecord,
    InstructionRecord,
    Message,
    MessagesRecord,
    Record,
    TextRecord,
)
from qpruner_core.data.splits import split_records
from qpruner_core.data.tokenization import start_ids
from qpruner_core.errors import DatasetInvalidError, DatasetTooShortError
from qpruner_core.models import load_tokenizer
from qpruner_core.source_policy import SourcePolicy
from tests.tiny_model import topic_paragraphs


@pytest.fixture
def tokenizer(tiny_llama: Path) -> PreTrainedTokenizerBase:
    return load_tokenizer(tiny_llama)


@pytest.fixture
def bare_tokenizer(tokenizer: PreTrainedTokenizerBase) -> PreTrainedTokenizerBase:
    """One that has no chat template."""
    tokenizer.chat_template = None
    return tokenizer


@pytest.fixture(scope="module")
def prose(text_dataset: Path) -> TextDataset:
    return read_dataset(str(text_dataset), SourcePolicy())


def prepare(dataset: TextDataset, tokenizer: PreTrainedTokenizerBase, **changes: Any) -> PreparedData:
    given: dict[str, Any] = {
        "sequence_length": 64, "calibration_sequences": 8, "held_out_tokens": 2048, "max_choices": 50, "seed": 0,
    } | changes  # fmt: skip
    return prepare_data(dataset, tokenizer, **given)


def dataset_of(kind: str, records: list[Record], *, is_prose: bool = False) -> TextDataset:
    return TextDataset(kind, tuple(records), is_prose, 1, "")  # type: ignore[arg-type]


def learned_text(example: Example, tokenizer: PreTrainedTokenizerBase) -> str:
    return str(tokenizer.decode(example.input_ids[example.labels != -100]))


def sentences(count: int) -> list[str]:
    rng = random.Random(0)
    words = " ".join(topic_paragraphs(50_000)).split()
    return [" ".join(rng.choices(words, k=12)) for _ in range(count)]


def test_prose_gives_full_windows_of_every_sort(prose: TextDataset, tokenizer: PreTrainedTokenizerBase) -> None:
    data = prepare(prose, tokenizer)
    assert data.calibration.shape == (8, 64)
    assert data.held_out.shape == (2048 // 64, 64)
    assert data.calibration.dtype == data.held_out.dtype == torch.long
    assert {len(example.input_ids) for example in data.train[:-1]} == {64}
    assert all(torch.equal(example.labels, example.input_ids) for example in data.train)
    assert data.choices == []
    assert data.warnings == []


def test_calibration_is_taken_from_the_training_side(prose: TextDataset, tokenizer: PreTrainedTokenizerBase) -> None:
    data = prepare(prose, tokenizer)
    trained = {tuple(example.input_ids.tolist()) for example in data.train}
    assert all(tuple(row) in trained for row in data.calibration.tolist())


def test_the_same_seed_gives_the_same_data_and_another_does_not(
    prose: TextDataset, tokenizer: PreTrainedTokenizerBase
) -> None:
    first, again, other = (prepare(prose, tokenizer, seed=seed) for seed in (3, 3, 4))
    assert first.digest == again.digest
    assert torch.equal(first.held_out, again.held_out)
    assert first.digest != other.digest
    assert not torch.equal(first.held_out, other.held_out)


def test_about_a_tenth_of_prose_is_held_out(prose: TextDataset) -> None:
    split = split_records(prose, seed=0, share=0.1)
    sizes = [
        sum(len(record.text) for record in side if isinstance(record, TextRecord))
        for side in (split.train, split.held_out)
    ]
    assert 0.07 < sizes[1] / sum(sizes) < 0.13


@settings(max_examples=60, deadline=None)
@given(
    texts=st.lists(
        st.sampled_from([f"paragraph {index} " + "x" * (1 + index * 7 % 90) for index in range(40)]), min_size=2
    ),
    seed=st.integers(0, 2**31 - 1),
    share=st.floats(0.05, 0.5),
    is_prose=st.booleans(),
)
def test_no_paragraph_or_document_is_on_both_sides(texts: list[str], seed: int, share: float, is_prose: bool) -> None:
    dataset = dataset_of("text", [TextRecord(text) for text in texts], is_prose=is_prose)
    split = split_records(dataset, seed=seed, share=share)
    train, held_out = (
        {part for record in side if isinstance(record, TextRecord) for part in record.text.strip().split("\n\n")}
        for side in (split.train, split.held_out)
    )
    assert not train & held_out
    assert (train | held_out) == set(texts)
    if len(set(texts)) > 1:
        assert held_out


@settings(max_examples=40, deadline=None)
@given(labels=st.lists(st.integers(0, 30), min_size=2), seed=st.integers(0, 1000))
def test_equal_records_stay_on_one_side_and_none_is_lost(labels: list[int], seed: int) -> None:
    records: list[Record] = [InstructionRecord(f"Say {label}", "", str(label)) for label in labels]
    split = split_records(dataset_of("instruction", records), seed=seed, share=0.1)
    assert not set(split.train) & set(split.held_out)
    assert sorted(map(repr, (*split.train, *split.held_out))) == sorted(map(repr, records))


def test_instructions_are_learned_on_the_answer_only(tokenizer: PreTrainedTokenizerBase) -> None:
    records: list[Record] = [InstructionRecord(f"Repeat {text}", "now", f"Answer: {text}") for text in sentences(60)]
    data = prepare(dataset_of("instruction", records), tokenizer, sequence_length=256)
    answers = {record.output + "</s>" for record in records if isinstance(record, InstructionRecord)}
    assert {learned_text(example, tokenizer) for example in data.train} <= answers
    whole = str(tokenizer.decode(data.train[0].input_ids))
    assert whole.startswith("<|user|>Repeat")
    assert "\n\nnow</s><|assistant|>Answer:" in whole


def test_without_a_chat_template_instructions_take_the_alpaca_prompt(bare_tokenizer: PreTrainedTokenizerBase) -> None:
    records: list[Record] = [InstructionRecord(f"Say {text}", "", text) for text in sentences(60)]
    data = prepare(dataset_of("instruction", records), bare_tokenizer, sequence_length=512)
    whole = str(bare_tokenizer.decode(data.train[0].input_ids))
    assert whole.startswith("Below is an instruction that describes a task. Write")
    assert "### Response:\n" in whole
    assert learned_text(data.train[0], bare_tokenizer).endswith("</s>")
    assert "Below" not in learned_text(data.train[0], bare_tokenizer)


@pytest.mark.parametrize("template", ["own", None])
def test_conversations_are_learned_on_the_assistants_turns_only(
    tokenizer: PreTrainedTokenizerBase, template: str | None
) -> None:
    if template is None:
        tokenizer.chat_template = None
    data = prepare(dataset_of("messages", _conversations(60)), tokenizer, sequence_length=256)
    for example in data.train:
        learned = learned_text(example, tokenizer)
        assert learned.count("reply one") == learned.count("reply two") == 1
        assert "question" not in learned
        assert "system words" not in learned
        assert str(tokenizer.decode(example.input_ids)).count("question") == 2


def test_a_template_that_rewrites_earlier_turns_is_learned_on_the_last(tokenizer: PreTrainedTokenizerBase) -> None:
    tokenizer.chat_template = (
        "{% for m in messages %}{{ m['role'] }}:"
        "{{ m['content'] if loop.last or m['role'] != 'assistant' else 'shortened' }};{% endfor %}"
        "{% if add_generation_prompt %}assistant:{% endif %}"
    )
    data = prepare(dataset_of("messages", _conversations(60)), tokenizer, sequence_length=256)
    assert all("reply two" in learned_text(example, tokenizer) for example in data.train)
    assert not any("shortened" in learned_text(example, tokenizer) for example in data.train)


def test_a_template_that_marks_what_is_generated_is_taken_at_its_word(tokenizer: PreTrainedTokenizerBase) -> None:
    tokenizer.chat_template = (
        "{% for m in messages %}{{ m['role'] }}:{% if m['role'] == 'assistant' %}"
        "{% generation %}{{ m['content'] }};{% endgeneration %}{% else %}{{ m['content'] }};{% endif %}{% endfor %}"
    )
    data = prepare(dataset_of("messages", _conversations(60)), tokenizer, sequence_length=256)
    for example in data.train:
        learned = learned_text(example, tokenizer)
        assert learned.startswith("reply one to ")
        assert learned.endswith(";reply two;")
        assert "assistant" not in learned


def test_a_generation_prompt_that_finished_turns_do_not_have_is_done_without(
    tokenizer: PreTrainedTokenizerBase,
) -> None:
    tokenizer.chat_template = (
        "{% for m in messages %}{{ m['role'] }}:{{ m['content'] }};{% endfor %}"
        "{% if add_generation_prompt %}assistant:<think>{% endif %}"
    )
    data = prepare(dataset_of("messages", _conversations(60)), tokenizer, sequence_length=256)
    for example in data.train:
        assert learned_text(example, tokenizer).startswith("reply one to ")
        assert learned_text(example, tokenizer).endswith(";reply two;")
        assert "assistant" not in learned_text(example, tokenizer)


def test_the_date_that_a_template_writes_is_the_run_s(tokenizer: PreTrainedTokenizerBase) -> None:
    tokenizer.chat_template = "{{ strftime_now('%d.%m.%Y ') }}" + str(tokenizer.chat_template)
    dataset = dataset_of("messages", _conversations(60))
    first, other = (
        prepare(dataset, tokenizer, sequence_length=256, template_date=date(2020, 2, day)) for day in (28, 29)
    )
    assert first.digest != other.digest
    assert str(tokenizer.decode(first.train[0].input_ids)).startswith("28.02.2020 ")
    assert (
        '"template_date":"2024-07-26"'
        in parse_config({"model": "m", "dataset": "d", "target": "bitsandbytes", "memory_budget": 1}).model_dump_json()
    )


def test_a_conversation_that_the_template_refuses_is_told(tokenizer: PreTrainedTokenizerBase) -> None:
    tokenizer.chat_template = "{{ raise_exception('roles must alternate') }}"
    with pytest.raises(DatasetInvalidError, match="roles must alternate") as caught:
        prepare(dataset_of("messages", _conversations(4)), tokenizer)
    assert caught.value.field == "dataset"


def test_choices_are_trained_on_the_right_one_and_scored_held_out(tokenizer: PreTrainedTokenizerBase) -> None:
    records: list[Record] = [
        ChoicesRecord(f"{text} is it", ("yes indeed", "certainly not"), index % 2)
        for index, text in enumerate(sentences(100))
    ]
    data = prepare(dataset_of("choices", records), tokenizer, max_choices=5, sequence_length=256)
    assert {learned_text(example, tokenizer) for example in data.train} == {" yes indeed", " certainly not"}
    assert len(data.choices) == 5
    right = {
        f"{record.context} {record.choices[record.label]}" for record in records if isinstance(record, ChoicesRecord)
    }
    for choice in data.choices:
        texts = [tokenizer.decode(choice.context_ids + ids) for ids in choice.choice_ids]
        assert texts[choice.label] in right
        assert not {str(tokenizer.decode(example.input_ids)) for example in data.train} & set(texts)


def test_a_choice_without_a_context_has_something_to_follow(tokenizer: PreTrainedTokenizerBase) -> None:
    records: list[Record] = [ChoicesRecord("", (text, text[::-1]), 0) for text in sentences(60)]
    data = prepare(dataset_of("choices", records), tokenizer, sequence_length=128)
    assert all(choice.context_ids == [tokenizer.bos_token_id] for choice in data.choices)
    assert data.choices


def test_a_long_context_is_cut_on_the_left_so_that_the_answer_stays(tokenizer: PreTrainedTokenizerBase) -> None:
    texts = [" ".join(sentences(20)[index % 10 :]) + f" number {index}" for index in range(40)]
    instructions: list[Record] = [InstructionRecord(text, "", "the answer") for text in texts]
    for example in prepare(dataset_of("instruction", instructions), tokenizer).train:
        assert len(example.input_ids) == 64
        assert learned_text(example, tokenizer) == "the answer</s>"
        assert "number" in tokenizer.decode(example.input_ids)
    choices: list[Record] = [ChoicesRecord(text, ("so", "not so"), 1) for text in texts]
    data = prepare(dataset_of("choices", choices), tokenizer)
    for choice in data.choices:
        longest = max(len(ids) for ids in choice.choice_ids)
        assert len(choice.context_ids) + longest == 64
        assert "number" in tokenizer.decode(choice.context_ids)
        assert tokenizer.decode(choice.choice_ids[1]) == " not so"


def test_an_answer_longer_than_the_sequence_keeps_its_head(tokenizer: PreTrainedTokenizerBase) -> None:
    records: list[Record] = [InstructionRecord(f"Say {index}", "", " ".join(sentences(30))) for index in range(40)]
    for example in prepare(dataset_of("instruction", records), tokenizer).train:
        assert len(example.input_ids) == 64
        assert " ".join(sentences(30)).startswith(learned_text(example, tokenizer)[:30])


def test_choices_that_do_not_fit_are_left_out_with_a_warning(tokenizer: PreTrainedTokenizerBase) -> None:
    fitting: list[Record] = [ChoicesRecord(text, ("a", "b"), 0) for text in sentences(60)]
    too_long = ChoicesRecord("Well", (" ".join(sentences(30)), "b"), 0)
    data = prepare(dataset_of("choices", [*fitting, too_long]), tokenizer)
    assert any("1 records were left out" in warning for warning in data.warnings)


def test_a_tokenizer_that_begins_texts_with_bos_begins_windows_with_it(
    prose: TextDataset, tokenizer: PreTrainedTokenizerBase
) -> None:
    from tokenizers.processors import TemplateProcessing

    assert start_ids(tokenizer) == []
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    data = prepare(prose, tokenizer)
    assert start_ids(tokenizer) == [tokenizer.bos_token_id]
    for rows in (data.calibration, data.held_out):
        assert (rows[:, 0] == tokenizer.bos_token_id).all()
        assert not (rows[:, 1:] == tokenizer.bos_token_id).any()


def test_documents_are_held_apart_by_the_end_of_text(tokenizer: PreTrainedTokenizerBase) -> None:
    texts = sentences(100)
    data = prepare(dataset_of("text", [TextRecord(text) for text in texts]), tokenizer)
    stream = torch.cat([example.input_ids for example in data.train])
    pieces = str(tokenizer.decode(stream)).split("</s>")
    assert set(pieces[:-1]) <= set(texts)
    assert len(pieces) > 80


def test_one_long_document_is_split_by_its_paragraphs(tokenizer: PreTrainedTokenizerBase) -> None:
    text = "\n\n".join(topic_paragraphs(40_000))
    data = prepare(dataset_of("text", [TextRecord(text)]), tokenizer)
    assert len(data.held_out) > 2


def test_fewer_calibration_sequences_than_asked_for_are_reported(tokenizer: PreTrainedTokenizerBase) -> None:
    dataset = dataset_of("text", [TextRecord(text) for text in topic_paragraphs(8_000)], is_prose=True)
    data = prepare(dataset, tokenizer, calibration_sequences=10_000)
    assert 1 <= len(data.calibration) < 10_000
    assert f"gives {len(data.calibration)} calibration sequences" in data.warnings[0]


def test_where_a_tenth_fills_no_window_more_is_held_out(tokenizer: PreTrainedTokenizerBase) -> None:
    dataset = dataset_of("text", [TextRecord(text) for text in sentences(12)], is_prose=True)
    data = prepare(dataset, tokenizer, calibration_sequences=1)
    assert len(data.held_out) >= 1
    assert len(data.train) >= 1


@pytest.mark.parametrize(
    "records",
    [
        [TextRecord("Too short.")],
        [TextRecord("Too short."), TextRecord("As well.")],
        [TextRecord(" ".join(topic_paragraphs(2000)[:1]))],
    ],
)
def test_too_short_a_dataset_says_how_many_tokens_are_needed(
    tokenizer: PreTrainedTokenizerBase, records: list[Record]
) -> None:
    with pytest.raises(DatasetTooShortError) as caught:
        prepare(dataset_of("text", records, is_prose=True), tokenizer, sequence_length=512)
    assert caught.value.field == "dataset"
    assert "1024 tokens in all" in caught.value.message
    assert "sequence_length" in caught.value.remedy


def _conversations(count: int) -> list[Record]:
    return [
        MessagesRecord(
            (
                Message("system", "system words"),
                Message("user", f"question {index}"),
                Message("assistant", f"reply one to {index}"),
                Message("user", "next question"),
                Message("assistant", "reply two"),
            )
        )
        for index in range(count)
    ]

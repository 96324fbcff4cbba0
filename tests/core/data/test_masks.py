"""What is learned of a conversation: the ids of the model's own template, and of them the answers only."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import ByT5Tokenizer, PreTrainedTokenizerBase, PreTrainedTokenizerFast
from transformers.utils.chat_template_utils import render_jinja_template

from qpruner_core.data.chat_process import ChatProcess, Rendered, TemplateLimits
from qpruner_core.data.chat_worker import _by_mark, _by_prefix, locate_answers
from qpruner_core.data.examples import encode_dialogues
from qpruner_core.data.masking import encode_spans, mask_example
from qpruner_core.data.records import ChoicesRecord, InstructionRecord, Message, MessagesRecord
from qpruner_core.data.tokenization import encode, encode_choices, start_ids
from qpruner_core.errors import CorruptModelError, DatasetInvalidError, UnsafeModelError
from tests.core.data.chat_templates import CHATML, GEMMA, IN_PAIRS, LLAMA_3, MISTRAL, QWEN_3, SHOUTS, SOUND
from tests.tiny_model import topic_paragraphs

DAY = date(2020, 2, 29)
_SPECIAL = ["<pad>", "<s>", "</s>", "<unk>"]
_MORE = ["<|im_start|>", "<|im_end|>", "<start_of_turn>", "<end_of_turn>", "<|eot|>"]


def _trained(kind: str) -> PreTrainedTokenizerFast:
    backend = Tokenizer(models.BPE(unk_token="<unk>"))
    if kind.startswith("bytes"):
        backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=kind == "bytes-prefix")
        backend.decoder = decoders.ByteLevel()
        alphabet = pre_tokenizers.ByteLevel.alphabet()
        if kind == "bytes-trim":
            backend.post_processor = processors.ByteLevel(trim_offsets=True)
    elif kind == "llama":  # as Llama 2's: the space is put in front by the normalizer
        backend.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
        backend.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.Fuse(), decoders.Strip(" ", 1, 0)])
        alphabet = []
    else:
        backend.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first" if kind == "mistral" else "always")
        backend.decoder = decoders.Metaspace(prepend_scheme="always")
        alphabet = []
    trainer = trainers.BpeTrainer(
        vocab_size=600, special_tokens=_SPECIAL, initial_alphabet=alphabet, show_progress=False
    )
    texts = [*topic_paragraphs(20_000), "".join(map(chr, range(33, 127))) + "\n", "Once upon a time"]
    if kind == "llama":
        texts = [word for text in texts for word in text.split(" ")]
    backend.train_from_iterator(texts, trainer)
    if kind == "llama":
        backend.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend, pad_token="<pad>", bos_token="<s>", eos_token="</s>", unk_token="<unk>"
    )
    tokenizer.add_special_tokens({"extra_special_tokens": _MORE})
    return tokenizer


@pytest.fixture(scope="module", params=["bytes", "bytes-prefix", "bytes-trim", "metaspace", "mistral", "llama", "slow"])
def tokenizer(request: pytest.FixtureRequest) -> PreTrainedTokenizerBase:
    """Tokenizers that treat a leading space in different ways; one does not say where its tokens lie."""
    if request.param == "slow":
        slow: PreTrainedTokenizerBase = ByT5Tokenizer(extra_ids=0, bos_token="<s>")
        slow.add_special_tokens({"extra_special_tokens": _MORE})
        return slow
    return _trained(request.param)


@pytest.fixture(scope="module")
def process() -> Iterator[ChatProcess]:
    """One process with all templates."""
    tokenizer = _trained("bytes")
    tokenizer.chat_template = {name: template for name, (template, _) in SOUND.items()} | {
        "shouts": SHOUTS,
        "random": "{{ range(10 ** 5)|list|random }} {{ lipsum(n=1) }}" + CHATML,
    }
    with ChatProcess(tokenizer, DAY) as process:
        yield process


CONVERSATIONS: list[list[dict[str, Any]]] = [
    [{"role": "user", "content": "Tell me a story"}, {"role": "assistant", "content": "Once upon a time"}],
    [
        {"role": "system", "content": "Be brief"},
        {"role": "user", "content": "one"},
        {"role": "assistant", "content": "two"},
        {"role": "user", "content": "two"},  # said by both
        {"role": "assistant", "content": "The end (of it all)."},
    ],
    [
        {"role": "user", "content": "assistant"},  # as the template's own words
        {"role": "assistant", "content": "user"},
        {"role": "user", "content": "Q"},
        {"role": "assistant", "content": "assistant\nA: Q"},
    ],
]


def _learned(tokenizer: PreTrainedTokenizerBase, ids: list[int], learned: list[bool]) -> list[str]:
    runs: list[list[int]] = []
    for index, (token, one) in enumerate(zip(ids, learned, strict=True)):
        if one:
            if not (index and learned[index - 1]):
                runs.append([])
            runs[-1].append(token)
    return [tokenizer.decode(run, clean_up_tokenization_spaces=False).strip() for run in runs]


@pytest.mark.parametrize("name", SOUND)
def test_the_ids_are_the_templates_and_the_answers_alone_are_learned(
    process: ChatProcess, tokenizer: PreTrainedTokenizerBase, name: str
) -> None:
    template, ending = SOUND[name]
    is_slow = isinstance(tokenizer, ByT5Tokenizer)  # which takes no space before a special token
    for messages, rendered in zip(
        CONVERSATIONS, process.render({"messages": one, "template": name} for one in CONVERSATIONS), strict=True
    ):
        assert not rendered.error
        assert rendered.lost == 0
        shown = _folded(messages) if rendered.folded else messages
        template = template.replace("strftime_now('%d %b %Y')", "'29 Feb 2020'")
        ids, learned = encode_spans(tokenizer, rendered.text, rendered.spans)
        expected = tokenizer.apply_chat_template(shown, chat_template=template, return_dict=False)
        assert ids == expected
        answers = [(m["content"] + ending).strip() for m in messages if m["role"] == "assistant"]
        answers = [answer.replace(" </s>", "</s>") for answer in answers] if is_slow else answers
        said = _learned(tokenizer, ids, learned)
        if name == "nothing-between":  # a token of both is learned by neither
            assert all(one in answer for one, answer in zip(said, answers, strict=True))
        else:
            assert said == answers


def _folded(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    system, user, *rest = messages
    return [{"role": "user", "content": f"{system['content']}\n\n{user['content']}"}, *rest]


def test_system_messages_are_folded_where_the_template_refuses_or_drops_them(process: ChatProcess) -> None:
    folding = {
        name
        for name in SOUND
        for rendered in process.render([{"messages": CONVERSATIONS[1], "template": name}])
        if rendered.folded
    }
    assert folding == {"mistral", "gemma", "in-pairs", "system-last-loud"}


def test_an_answer_that_the_template_changes_is_not_learned_in_another_s_place(process: ChatProcess) -> None:
    (rendered,) = process.render([{"messages": CONVERSATIONS[1], "template": "shouts"}])
    assert rendered.text.count("TWO") == 2
    for start, end in rendered.spans:
        assert rendered.text[start:end] in ("assistant: TWO\n", "assistant: THE END (OF IT ALL).\n")


def test_thoughts_are_learned_where_the_template_writes_them(process: ChatProcess) -> None:
    messages = [
        {"role": "user", "content": "q"},
        {"role": "assistant", "content": "<think>\nfirst\n</think>\n\nanswer one"},
        {"role": "user", "content": "q"},
        {"role": "assistant", "content": "<think>\nsecond\n</think>\n\nanswer two"},
    ]
    (rendered,) = process.render([{"messages": messages, "template": "qwen-3"}])
    texts = [rendered.text[start:end] for start, end in rendered.spans]
    assert texts == ["answer one<|im_end|>\n", "<think>\nsecond\n</think>\n\nanswer two<|im_end|>\n"]


_words = st.text("ab <>|\n:.;[]/im_endQA", min_size=1, max_size=8)


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.tuples(_words, _words), min_size=1, max_size=3), st.sampled_from([CHATML, MISTRAL, QWEN_3, IN_PAIRS])
)
def test_whatever_is_said_the_spans_hold_the_answers_and_nothing_of_the_user(
    turns: list[tuple[str, str]], template: str
) -> None:
    messages = []
    for number, (asked, answered) in enumerate(turns):
        messages += [
            {"role": "user", "content": f"{asked}USER{number}{asked}"},
            {"role": "assistant", "content": f"{answered}MODEL{number}{answered}"},
        ]

    def render(messages: list[dict[str, Any]], add_generation_prompt: bool = False) -> str:
        texts, _ = render_jinja_template(
            [messages], chat_template=template, add_generation_prompt=add_generation_prompt, bos_token="<s>",
            eos_token="</s>",
        )  # fmt: skip
        return str(texts[0])

    located = locate_answers(messages, render)
    texts = [located.text[start:end] for start, end in located.spans]
    assert located.lost == 0
    assert len(texts) == len(turns)
    assert not any("USER" in text for text in texts)
    for index, text in zip(range(1, len(messages), 2), texts, strict=True):
        assert text.strip().startswith(messages[index]["content"].strip())
        for look in (_by_mark, _by_prefix):  # the ways that are taken where one rendering does not find all
            span = look(messages, index, located.text, render, "zqx0answer")
            assert span is None or "USER" not in located.text[slice(*span)]
            assert span is None or messages[index]["content"].strip() in located.text[slice(*span)]


def test_a_prompt_and_an_answer_without_a_template_are_one_text(tokenizer: PreTrainedTokenizerBase) -> None:
    tokenizer.chat_template = None
    start = start_ids(tokenizer)
    record = InstructionRecord("Tell", "me", "Once upon a time")
    example = encode_dialogues([record], tokenizer, 4096, start, DAY).examples[record]
    assert example is not None
    text = tokenizer.decode(example.input_ids[len(start) :], clean_up_tokenization_spaces=False)
    assert example.input_ids.tolist() == [*start, *encode(tokenizer, text.removeprefix(" "))] or text.startswith(" ")
    learned = example.input_ids[example.labels != -100].tolist()
    assert tokenizer.decode(learned, clean_up_tokenization_spaces=False).strip() == "Once upon a time</s>"


def test_context_and_choice_are_the_tokens_of_one_text(tokenizer: PreTrainedTokenizerBase) -> None:
    for context, choices in (("The sky is", ("blue", "(a fish)")), ("Say: ", ("Once", "time")), ("", ("Once", "a b"))):
        record = ChoicesRecord(context, choices, 0)
        example = encode_choices(tokenizer, record, 4096, start_ids(tokenizer))
        assert example is not None
        for choice, ids in zip(choices, example.choice_ids, strict=True):
            joined = f"{context.rstrip()} {choice}" if context else choice
            own = [token for token in example.context_ids if token != tokenizer.bos_token_id]
            assert own + ids == encode(tokenizer, joined) or not context


def test_bos_stands_once_whether_template_or_tokenizer_writes_it() -> None:
    tokenizer = _trained("llama")
    record = InstructionRecord("Tell", "", "Once upon a time")
    start = start_ids(tokenizer)
    assert start == [tokenizer.bos_token_id]
    for template, count in ((MISTRAL, 1), (CHATML, 0), (None, 1)):
        tokenizer.chat_template = template
        example = encode_dialogues([record], tokenizer, 512, start, DAY).examples[record]
        assert example is not None
        assert example.input_ids.tolist().count(tokenizer.bos_token_id) == count


def test_tokens_that_share_a_word_with_the_user_are_not_learned() -> None:
    tokenizer = _trained("bytes")
    ids, learned = encode_spans(tokenizer, "time", ((2, 4),))
    assert "time" not in [tokenizer.decode([token]) for token, one in zip(ids, learned, strict=True) if one]
    assert mask_example([1, 2], [False, False], 16, []) is None


def test_tool_calls_are_rendered_and_learned() -> None:
    tokenizer = _trained("bytes")
    tokenizer.chat_template = (
        "{% if tools %}{{ tools | tojson }}{% endif %}{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' }}"
        "{{ m.content or '' }}{% for call in m.tool_calls or [] %}"
        "{{ '<tool_call>' + call.function | tojson + '</tool_call>' }}{% endfor %}{{ '<|im_end|>\n' }}{% endfor %}"
    )
    call = '{"tool_calls": [{"type": "function", "function": {"name": "add", "arguments": {"a": 1}}}]}'
    record = MessagesRecord(
        (
            Message("user", "Add"),
            Message("assistant", "", call),
            Message("tool", "2", '{"name": "add"}'),
            Message("assistant", "It is 2"),
        ),
        '[{"type": "function", "function": {"name": "add"}}]',
    )
    example = encode_dialogues([record], tokenizer, 4096, [], DAY).examples[record]
    assert example is not None
    said = _learned(tokenizer, example.input_ids.tolist(), (example.labels != -100).tolist())
    assert said == [
        '<tool_call>{"name": "add", "arguments": {"a": 1}}</tool_call><|im_end|>',
        "It is 2<|im_end|>",
    ]
    assert tokenizer.decode(example.input_ids).startswith('[{"type": "function", "function": {"name": "add"}}]')


@pytest.mark.parametrize("template", [LLAMA_3, SOUND["marked"][0], None])
def test_calls_and_tools_that_the_template_does_not_write_are_told_and_no_empty_answer_is_learned(
    template: str | None,
) -> None:
    tokenizer = _trained("bytes")
    tokenizer.chat_template = template
    call = '{"tool_calls": [{"type": "function", "function": {"name": "add", "arguments": {"a": 1}}}]}'
    turns = (
        Message("user", "Sum"),
        Message("assistant", "", call),
        Message("tool", "2"),
        Message("assistant", "It is 2"),
    )
    records = [MessagesRecord(turns), MessagesRecord(turns[2:], '[{"type": "function", "function": {"name": "add"}}]')]
    encoded = encode_dialogues(records, tokenizer, 4096, [], DAY)
    example = encoded.examples[records[0]]
    assert example is not None
    said = _learned(tokenizer, example.input_ids.tolist(), (example.labels != -100).tolist())
    assert [one.startswith("It is 2") for one in said] == [True] if template else [False, True]
    assert [warning for warning in encoded.warnings if "1 answers are not learned" in warning] or not template
    assert [warning for warning in encoded.warnings if "In 1 records, tools" in warning]


def test_messages_and_thoughts_that_the_template_does_not_write_are_told() -> None:
    question, answer = CONVERSATIONS[0]
    thoughtful = answer | {"reasoning_content": "because of it"}
    tokenizer = _trained("bytes")
    tokenizer.chat_template = "{% for m in messages if m.role != 'tool' %}<|im_start|>{{ m.content }}{% endfor %}"
    chats: list[list[dict[str, Any]]] = [
        [question, answer],
        [question, thoughtful],
        [question, thoughtful, *CONVERSATIONS[0]],
        [question, {"role": "tool", "content": '{"result": "seven"}'}, answer],
    ]
    with ChatProcess(tokenizer, DAY) as process:
        rendered = list(process.render({"messages": chat, "template": "default"} for chat in chats))
    assert [one.leaves_out for one in rendered] == [False, True, False, True]


HOSTILE = {
    "loops": "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
    "power": "{{ 10 ** (10 ** 9) }}",
    "string": "{{ 'a' * 10 ** 11 }}",
    "doubling": "{% set n = namespace(s='ab') %}{% for a in range(60) %}{% set n.s = n.s + n.s %}{% endfor %}{{ n.s }}",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_template_without_end_or_measure_is_refused(name: str) -> None:
    tokenizer = _trained("bytes")
    tokenizer.chat_template = HOSTILE[name]
    chats = [{"messages": CONVERSATIONS[0], "template": "default"}]
    with (
        ChatProcess(tokenizer, DAY, TemplateLimits(seconds=1, memory=2**28)) as process,
        pytest.raises(UnsafeModelError, match=r"too much memory|too long") as caught,
    ):
        list(process.render(chats))
    assert caught.value.field == "model"
    assert caught.value.remedy


def test_a_conversation_of_thousands_of_turns_takes_a_fraction_of_its_seconds() -> None:
    tokenizer = _trained("bytes")
    tokenizer.chat_template = CHATML
    turns = [
        {"role": role, "content": f"{role} {number}"} for number in range(20_000) for role in ("user", "assistant")
    ]
    with ChatProcess(tokenizer, DAY, TemplateLimits(seconds=1)) as process:
        (rendered,) = process.render([{"messages": turns, "template": "default"}])
    assert (len(rendered.spans), rendered.lost, rendered.leaves_out) == (20_000, 0, False)


def test_a_template_that_is_none_is_refused_and_names_decide() -> None:
    tokenizer = _trained("bytes")
    record = InstructionRecord("Tell", "", "Once")

    def text_under(template: Any) -> str:
        tokenizer.chat_template = template
        example = encode_dialogues([record], tokenizer, 512, [], DAY).examples[record]
        assert example is not None
        return str(tokenizer.decode(example.input_ids))

    with pytest.raises(CorruptModelError, match="TemplateSyntaxError") as caught:
        text_under("{% for %}")
    assert caught.value.field == "model"
    assert text_under({"other": "{{ 1/0 }}", "default": CHATML}) == text_under({"only": CHATML})
    with pytest.raises(CorruptModelError, match="'a', 'b'"):
        text_under({"a": CHATML, "b": CHATML})


def test_a_template_that_writes_something_random_writes_the_same_in_every_process(process: ChatProcess) -> None:
    chats = [{"messages": messages, "template": "random"} for messages in CONVERSATIONS]
    rendered = list(process.render(chats))
    assert [one.lost for one in rendered] == [0, 0, 0]
    tokenizer = _trained("bytes")
    tokenizer.chat_template = {"random": process._setup["templates"]["random"]}
    with ChatProcess(tokenizer, DAY) as another:
        assert list(another.render(reversed(chats))) == rendered[::-1]


def test_the_day_of_the_run_is_what_a_template_is_told(process: ChatProcess) -> None:
    (rendered,) = process.render([{"messages": CONVERSATIONS[0], "template": "llama-3"}])
    assert isinstance(rendered, Rendered)
    assert "Today Date: 29 Feb 2020" in rendered.text


def test_a_few_conversations_that_the_template_refuses_are_left_out_and_many_are_not() -> None:
    tokenizer = _trained("bytes")
    tokenizer.chat_template = MISTRAL
    good = [InstructionRecord(f"Say {index}", "", "Once") for index in range(20)]
    bad = [
        MessagesRecord((Message("assistant", f"{index}"), Message("assistant", "no one asked"))) for index in range(4)
    ]
    encoded = encode_dialogues([bad[0], *good, bad[1]], tokenizer, 512, [], DAY)
    assert list(encoded.examples) == good
    assert len(encoded.warnings) == 1
    for said in ("2 conversations", "record 1, record 22", "roles must alternate"):
        assert said in encoded.warnings[0]
    with pytest.raises(DatasetInvalidError, match=r"record 1.*roles must alternate.*4 of 24"):
        encode_dialogues([*bad, *good], tokenizer, 512, [], DAY)


def test_a_system_message_that_the_template_refuses_stands_before_the_question() -> None:
    tokenizer = _trained("bytes")
    tokenizer.chat_template = GEMMA
    record = InstructionRecord("Tell", "", "Once", "Be brief")
    encoded = encode_dialogues([record], tokenizer, 512, [], DAY)
    example = encoded.examples[record]
    assert example is not None
    assert "user\nBe brief\n\nTell<end_of_turn>" in tokenizer.decode(example.input_ids)
    assert "in 1 records" in encoded.warnings[0]

"""How records read as text: which parts the model is shown, and which it learns to write."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from jinja2 import TemplateError
from transformers import PreTrainedTokenizerBase
from transformers.utils.chat_template_utils import render_jinja_template

from qpruner_core.data.formats import invalid
from qpruner_core.data.records import InstructionRecord, Message, MessagesRecord

# The prompts of Stanford Alpaca, which LLM-Pruner's recovery uses too.
_WITH_INPUT = (
    "Below is an instruction that describes a task, paired with an input that provides further context. "
    "Write a response that appropriately completes the request.\n\n"
    "### Instruction:\n{instruction}\n\n### Input:\n{input}\n\n### Response:\n"
)
_WITHOUT_INPUT = (
    "Below is an instruction that describes a task. "
    "Write a response that appropriately completes the request.\n\n"
    "### Instruction:\n{instruction}\n\n### Response:\n"
)
_GENERATION = re.compile(r"\{%-?\s*generation\s*-?%\}")


@dataclass(frozen=True, slots=True)
class Segment:
    """A piece of text; ``learned`` if the loss counts on it."""

    text: str
    learned: bool


def instruction_segments(record: InstructionRecord, tokenizer: PreTrainedTokenizerBase) -> list[Segment]:
    """The record under the tokenizer's chat template, or under Alpaca's prompt if it has none."""
    if tokenizer.chat_template:
        asked = "\n\n".join(part for part in (record.instruction, record.input) if part.strip())
        return messages_segments(
            MessagesRecord((Message("user", asked), Message("assistant", record.output))), tokenizer
        )
    prompt = _WITH_INPUT if record.input.strip() else _WITHOUT_INPUT
    prompt = prompt.format(instruction=record.instruction, input=record.input)
    return [Segment(prompt, learned=False), Segment(record.output + _end(tokenizer), learned=True)]


def messages_segments(record: MessagesRecord, tokenizer: PreTrainedTokenizerBase) -> list[Segment]:
    """The conversation, learned on the turns of the assistant only.

    A template that marks them (``{% generation %}``) is taken at its word. Under any other, a turn is what the
    template adds to the conversation so far with its generation prompt. Where a template rewrites earlier turns (some
    drop the thoughts in them), only the last turn of the assistant is learned.

    Raises:
        DatasetInvalidError: the tokenizer's template refuses the conversation.
    """
    if not tokenizer.chat_template:
        return _plain_segments(record, tokenizer)
    turns = [index for index, message in enumerate(record.messages) if message.role == "assistant"]
    messages = [{"role": message.role, "content": message.content} for message in record.messages[: turns[-1] + 1]]
    if _GENERATION.search(str(tokenizer.get_chat_template())):
        return _by_marks(tokenizer, messages)
    whole = _render(tokenizer, messages, add_generation_prompt=False)
    for prompted in (True, False):  # some generation prompts open a thought that a finished turn does not have
        for chosen in (turns, turns[-1:]):
            segments = _by_prefix(tokenizer, messages, chosen, whole, prompted=prompted)
            if segments is not None:
                return segments
    raise invalid(
        "the model's chat template rewrites a conversation when a turn is added, so that turns cannot be told apart",
        'Give records with "instruction" and "output", or with "text".',
    )


def _by_marks(tokenizer: PreTrainedTokenizerBase, messages: list[dict[str, str]]) -> list[Segment]:
    with _template_errors(messages):
        rendered, marks = render_jinja_template(
            conversations=[messages],
            chat_template=tokenizer.get_chat_template(),
            return_assistant_tokens_mask=True,
            **tokenizer.special_tokens_map,
        )
    segments: list[Segment] = []
    position = 0
    for start, end in marks[0]:
        segments += [Segment(rendered[0][position:start], False), Segment(rendered[0][start:end], True)]
        position = end
    return segments


def _by_prefix(
    tokenizer: PreTrainedTokenizerBase, messages: list[dict[str, str]], turns: list[int], whole: str, *, prompted: bool
) -> list[Segment] | None:
    """Cut ``whole`` around the given turns, or ``None`` if the template does not build it up turn by turn."""
    segments: list[Segment] = []
    position = 0
    for turn in turns:
        before = _render(tokenizer, messages[:turn], add_generation_prompt=prompted) if turn else ""
        after = _render(tokenizer, messages[: turn + 1], add_generation_prompt=False)
        if not (whole.startswith(before) and whole.startswith(after) and position <= len(before) < len(after)):
            return None
        segments += [Segment(whole[position : len(before)], False), Segment(whole[len(before) : len(after)], True)]
        position = len(after)
    return segments


def _plain_segments(record: MessagesRecord, tokenizer: PreTrainedTokenizerBase) -> list[Segment]:
    segments = []
    for message in record.messages:
        learned = message.role == "assistant"
        segments.append(Segment(f"### {message.role.capitalize()}:\n", learned=False))
        segments.append(Segment(message.content + (_end(tokenizer) if learned else "") + "\n\n", learned=learned))
    return segments


def _render(tokenizer: PreTrainedTokenizerBase, messages: list[dict[str, str]], *, add_generation_prompt: bool) -> str:
    options: dict[str, Any] = {"tokenize": False, "add_generation_prompt": add_generation_prompt}
    with _template_errors(messages):
        return str(tokenizer.apply_chat_template(messages, **options))


@contextmanager
def _template_errors(messages: list[dict[str, str]]) -> Iterator[None]:
    try:
        yield
    except (TemplateError, TypeError, ValueError) as error:
        roles = ", ".join(message["role"] for message in messages)
        raise invalid(
            f"the model's chat template refuses a conversation of {roles} ({error})",
            "Give conversations whose roles the model's chat template knows, in its order.",
        ) from error


def _end(tokenizer: PreTrainedTokenizerBase) -> str:
    return str(tokenizer.eos_token or "")

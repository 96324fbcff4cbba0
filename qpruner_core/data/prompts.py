"""Text form of records: the parts that the model is shown, and the parts that it learns to write."""

from __future__ import annotations

import json
from typing import Any

from qpruner_core.data.records import InstructionRecord, Message, MessagesRecord

# The prompts of Stanford Alpaca, which LLM-Pruner's recovery also uses.
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

Spans = tuple[tuple[int, int], ...]
"""Spans of characters (from, to) that count in the loss."""


def as_conversation(record: InstructionRecord) -> MessagesRecord:
    """The record as messages: system message, history, question and answer."""
    asked = "\n\n".join(part for part in (record.instruction, record.input) if part.strip())
    messages = [Message("system", record.system)] if record.system.strip() else []
    for question, answer in record.history:
        messages += [Message("user", question), Message("assistant", answer)]
    return MessagesRecord((*messages, Message("user", asked), Message("assistant", record.output)))


def chat_of(record: MessagesRecord, template: str) -> dict[str, Any]:
    """The conversation up to its last answer, in the form of :class:`~qpruner_core.data.chat_process.ChatProcess`."""
    last = max(index for index, message in enumerate(record.messages) if message.role == "assistant")
    messages = [
        {"role": message.role, "content": message.content, **json.loads(message.extra or "{}")}
        for message in record.messages[: last + 1]
    ]
    chat: dict[str, Any] = {"messages": messages, "template": template}
    return chat | {"tools": json.loads(record.tools)} if record.tools else chat


def plain_text(record: InstructionRecord | MessagesRecord, end: str) -> tuple[str, Spans]:
    """The record in plain form, without a chat template; ``end`` is written after each answer.

    An instruction uses Alpaca's prompt. With a system message or a history it is a conversation, whose turns have the
    names of their roles as headings.
    """
    if isinstance(record, InstructionRecord):
        if not record.system.strip() and not record.history:
            prompt = _WITH_INPUT if record.input.strip() else _WITHOUT_INPUT
            prompt = prompt.format(instruction=record.instruction, input=record.input)
            text = prompt + record.output + end
            return text, ((len(prompt), len(text)),)
        record = as_conversation(record)
    text = ""
    spans = []
    for message in record.messages:
        text += f"### {message.role.capitalize()}:\n"
        start = len(text)
        text += _said(message)
        if message.role == "assistant":
            text += end
            spans.append((start, len(text)))
        text += "\n\n"
    return text, tuple(spans)


def has_more_than_text(record: InstructionRecord | MessagesRecord) -> bool:
    """Whether the record has tools or thoughts, which :func:`plain_text` leaves out."""
    if isinstance(record, InstructionRecord):
        return False
    more = {name for message in record.messages for name in json.loads(message.extra or "{}")}
    return bool(record.tools or more & {"reasoning_content", "reasoning", "thinking"})


def _said(message: Message) -> str:
    calls = json.loads(message.extra or "{}").get("tool_calls")
    return "\n".join(part for part in (message.content, json.dumps(calls, ensure_ascii=False) if calls else "") if part)

"""Conversations in the forms of datasets: OpenAI messages, ShareGPT turns, tool calls, preference pairs."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from qpruner_core.data.bad_record import BadRecordError
from qpruner_core.data.records import Message, MessagesRecord
from qpruner_core.data.values import optional_string, plain_json, spoken, string

Row = Mapping[str, Any]

_ROLES = {
    "human": "user", "gpt": "assistant", "chatgpt": "assistant", "model": "assistant", "bot": "assistant",
    "ai": "assistant", "observation": "tool", "function": "tool", "tool_response": "tool",
}  # fmt: skip
"""Role names of datasets -> role names of chat templates."""

_KEPT = ("tool_calls", "tool_call_id", "name", "reasoning_content", "reasoning", "thinking")
"""Fields of a message, beside role and content, that templates read."""

_TURN = re.compile(r"(?:\A|\n\n)(Human|Assistant): ?")
_MESSAGES_REMEDY = 'Give a list of {"role", "content"}, or of {"from", "value"}.'


def messages_record(row: Row, column: str) -> MessagesRecord | None:
    """The conversation in ``row[column]``, with ``system`` and ``tools`` added; ``None`` without the text of an answer.

    Raises:
        BadRecordError: not a conversation, or one without an answer.
    """
    return conversation(row, _messages(row[column], column))


def preferred_record(row: Row, question: str | None, given: str | None) -> MessagesRecord | None:
    """The conversation that ends in the ``chosen`` answer; the question is in the named columns.

    Raises:
        BadRecordError: the question is missing, or the answer is not one.
    """
    chosen = row["chosen"]
    asked = row.get(question) if question is not None else None
    before = row.get("conversations") or (asked if isinstance(asked, list) else None)
    if isinstance(chosen, str) and before is None and asked is None:
        return conversation(row, _transcript(string(chosen, "chosen")))
    if isinstance(chosen, str):
        answer = [Message("assistant", string(chosen, "chosen"))]
    else:
        answer = _messages([chosen] if isinstance(chosen, dict) else chosen, "chosen")
    if answer and answer[0].role != "assistant":
        return conversation(row, answer)  # the whole conversation
    if before is not None:
        return conversation(row, [*_messages(before, "prompt"), *answer])
    parts = [optional_string(asked, "prompt"), optional_string(row.get(given or ""), "input")]
    return conversation(row, [Message("user", "\n\n".join(filter(str.strip, parts))), *answer])


def prompted_record(row: Row, question: str, answer: str) -> MessagesRecord | None:
    """The conversation of a list of messages and an answer, which is a string or a list.

    Raises:
        BadRecordError: they do not form a conversation.
    """
    said = row[answer]
    last = _messages(said, answer) if isinstance(said, list) else [Message("assistant", string(said, answer))]
    asked = row[question]
    first = _messages(asked, question) if isinstance(asked, list) else [Message("user", string(asked, question))]
    return conversation(row, [*first, *last])


def conversation(row: Row, messages: list[Message]) -> MessagesRecord | None:
    """``messages`` with the row's system message and tools."""
    system = optional_string(row.get("system"), "system")
    if system.strip():
        messages = [Message("system", system), *messages]
    if not messages:
        return None
    if not any(message.role == "assistant" for message in messages):
        raise BadRecordError('it has no message of the role "assistant", so there is nothing to learn')
    if not any(one.role == "assistant" and (one.content.strip() or '"tool_calls"' in one.extra) for one in messages):
        return None
    return MessagesRecord(tuple(messages), _tools(row.get("tools")))


def _messages(values: Any, column: str) -> list[Message]:
    if not isinstance(values, list):
        raise BadRecordError(f'"{column}" is not a list', _MESSAGES_REMEDY)
    return [_message(value, column) for value in values]


def _message(value: Any, column: str) -> Message:
    if not isinstance(value, dict):
        raise BadRecordError(f'"{column}" holds something that is not an object', _MESSAGES_REMEDY)
    role_key, content_key = ("role", "content") if "role" in value else ("from", "value")
    if role_key not in value:
        raise BadRecordError('a message has no "role"', _MESSAGES_REMEDY)
    role = string(value[role_key], role_key).strip().lower()
    extra = {key: plain_json(value[key], key) for key in _KEPT if value.get(key) not in (None, [], "")}
    called = plain_json(value.get("function_call"), "function_call")  # OpenAI's form before tool calls
    if called and "tool_calls" not in extra:
        extra["tool_calls"] = called
    if role == "function_call":
        role, extra["tool_calls"] = "assistant", _parsed(string(value.get(content_key), content_key), "function_call")
        value = {content_key: ""}
    if "tool_calls" in extra:
        extra["tool_calls"] = [_call(call) for call in _as_list(extra["tool_calls"])]
    elif content_key not in value:
        raise BadRecordError(f'a message has no "{content_key}"', _MESSAGES_REMEDY)
    elif value[content_key] is None:
        raise BadRecordError(f'"{content_key}" of a message is null', _MESSAGES_REMEDY)
    text = spoken(value.get(content_key), content_key)
    return Message(_ROLES.get(role, role), text, json.dumps(extra, ensure_ascii=False, sort_keys=True) if extra else "")


def _call(call: Any) -> dict[str, Any]:
    """A tool call in the form of templates: arguments as an object, not as JSON in a string."""
    function = call.get("function", call) if isinstance(call, dict) else None
    if not isinstance(function, dict) or not isinstance(function.get("name"), str):
        raise BadRecordError('a tool call has no "name"')
    arguments = function.get("arguments", {})
    if isinstance(arguments, str):
        arguments = _parsed(arguments or "{}", "arguments")
    kept = {key: call[key] for key in ("id",) if key in call}
    return {**kept, "type": "function", "function": {"name": function["name"], "arguments": arguments}}


def _tools(value: Any) -> str:
    if isinstance(value, str):
        value = _parsed(value, "tools") if value.strip() else None
    if not value:
        return ""
    tools = plain_json(_as_list(value), "tools")
    if not all(isinstance(tool, dict) for tool in tools):
        raise BadRecordError('"tools" is not a list of objects')
    wrapped = [tool if "function" in tool else {"type": "function", "function": tool} for tool in tools]
    return json.dumps(wrapped, ensure_ascii=False)


def _as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _parsed(text: str, column: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise BadRecordError(f'"{column}" is not JSON') from error


def _transcript(text: str) -> list[Message]:
    """Turns of a conversation in one text, as in Anthropic's HH-RLHF."""
    start, *turns = _TURN.split(text)
    if start.strip() or not turns:
        raise BadRecordError('"chosen" has no question', 'Add the column "prompt".')
    roles = {"Human": "user", "Assistant": "assistant"}
    return [Message(roles[who], said.strip()) for who, said in zip(turns[::2], turns[1::2], strict=True)]

"""Conversations in the forms of datasets: OpenAI messages, ShareGPT turns, tool calls, preference pairs."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from qpruner_core.data.bad_record import BadRecordError
from qpruner_core.data.records import Message, MessagesRecord
from qpruner_core.data.values import may_matter, optional_string, plain_json, spoken, string

Row = Mapping[str, Any]
Note = Callable[[str], None]
"""Called with the name of a field that is not used."""

_ROLES = {
    "human": "user", "gpt": "assistant", "chatgpt": "assistant", "model": "assistant", "bot": "assistant",
    "ai": "assistant", "observation": "tool", "function": "tool", "tool_response": "tool",
}  # fmt: skip
"""Role names of datasets -> role names of chat templates."""

_KEPT = ("tool_calls", "tool_call_id", "name", "reasoning_content", "reasoning", "thinking")
"""Fields of a message, beside role and content, that templates read."""
_READ = (*_KEPT, "role", "content", "from", "value", "function_call")
_LEARNED = ("weight", "train", "training", "trainable", "loss")
"""Fields of a message that say with 0 or false that it is not to be learned."""
_MASK = "mask"

_TURN = re.compile(r"(?:\A|\n\n)(Human|Assistant): ?")
_MESSAGES_REMEDY = 'Give a list of {"role", "content"}, or of {"from", "value"}.'


def messages_record(row: Row, note: Note, column: str) -> MessagesRecord | None:
    """The conversation in ``row[column]``, with ``system`` and ``tools`` added; ``None`` without the text of an answer.

    Raises:
        BadRecordError: not a conversation, or one without an answer.
    """
    return conversation(row, _messages(row[column], column, note))


def preferred_record(row: Row, note: Note, question: str | None, given: str | None) -> MessagesRecord | None:
    """The conversation that ends in the ``chosen`` answer; the question and its input are in the named columns.

    Raises:
        BadRecordError: the question is missing, or the answer is not one.
    """
    chosen = row["chosen"]
    asked = row.get(question) if question is not None else None
    before = row.get("conversations") or (asked if isinstance(asked, list) else None)
    if isinstance(chosen, str) and before is None and asked is None:
        return conversation(row, _note_absent(row, note, _transcript(string(chosen, "chosen")), given))
    if isinstance(chosen, str):
        answer = [Message("assistant", string(chosen, "chosen"))]
    else:
        answer = _messages([chosen] if isinstance(chosen, dict) else chosen, "chosen", note)
    if answer and answer[0].role != "assistant":  # the whole conversation
        return conversation(row, _note_absent(row, note, answer, "conversations", question, given))
    if before is not None:
        first = _with_input(row, note, _messages(before, "prompt", note), given)
        return conversation(row, [*_note_absent(row, note, first, question), *answer])
    parts = [optional_string(asked, "prompt"), "" if given is None else optional_string(row[given], given)]
    return conversation(row, [Message("user", "\n\n".join(filter(str.strip, parts))), *answer])


def prompted_record(row: Row, note: Note, question: str, given: str | None, answer: str) -> MessagesRecord | None:
    """The conversation of a question with its input and an answer; at least one of both is a list of messages.

    Raises:
        BadRecordError: they do not form a conversation.
    """
    said = row[answer]
    last = _messages(said, answer, note) if isinstance(said, list) else [Message("assistant", string(said, answer))]
    asked = row[question]
    first = _messages(asked, question, note) if isinstance(asked, list) else [Message("user", string(asked, question))]
    return conversation(row, [*_with_input(row, note, first, given), *last])


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


def _with_input(row: Row, note: Note, messages: list[Message], given: str | None) -> list[Message]:
    """``messages`` with the text of the column ``given`` below the user's last one, unless it is in them already."""
    text = row.get(given) if given is not None else None
    if not isinstance(text, str) or not messages or messages[-1].role != "user":
        return _note_absent(row, note, messages, given)
    text = string(text, str(given))
    if _has(messages, text):
        return messages
    content = "\n\n".join(filter(str.strip, (messages[-1].content, text)))
    return [*messages[:-1], replace(messages[-1], content=content)]


def _note_absent(row: Row, note: Note, messages: list[Message], *columns: str | None) -> list[Message]:
    """``messages``, after a note of those ``columns`` whose text is not in them."""
    for column in columns:
        value = row.get(column) if column is not None else None
        if value and not (_has_messages if isinstance(value, list) else _has)(messages, value):
            note(str(column))
    return messages


def _has(messages: list[Message], value: Any) -> bool:
    try:
        text = string(value, "").strip()
    except BadRecordError:
        return False
    return any(text in message.content for message in messages)


def _has_messages(messages: list[Message], values: list[Any]) -> bool:
    try:
        return all(one in messages for one in _messages(values, "", lambda _: None))
    except BadRecordError:
        return False


def _messages(values: Any, column: str, note: Note) -> list[Message]:
    if not isinstance(values, list):
        raise BadRecordError(f'"{column}" is not a list', _MESSAGES_REMEDY)
    return [_message(value, column, note) for value in values]


def _message(value: Any, column: str, note: Note) -> Message:
    if not isinstance(value, dict):
        raise BadRecordError(f'"{column}" holds something that is not an object', _MESSAGES_REMEDY)
    role_key, content_key = ("role", "content") if "role" in value else ("from", "value")
    if role_key not in value:
        raise BadRecordError('a message has no "role"', _MESSAGES_REMEDY)
    role = string(value[role_key], role_key).strip().lower()
    for key in value:
        if key in _READ:
            continue
        if may_matter(value[key]) or _says_what_is_learned(key, value[key]):
            note(f"{key} of a message")
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


def _says_what_is_learned(key: str, value: Any) -> bool:
    if key == _MASK:
        return value is not None
    return key in _LEARNED and str(value).strip().lower() in ("0", "0.0", "false")


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

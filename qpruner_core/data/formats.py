"""From the columns of a row to a typed record."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from qpruner_core.data.records import (
    ChoicesRecord,
    DatasetKind,
    InstructionRecord,
    Message,
    MessagesRecord,
    Record,
    TextRecord,
)
from qpruner_core.errors import DatasetInvalidError

COLUMNS_REMEDY = (
    'Each line is a JSON object with "text"; or "instruction", "input" (optional) and "output"; or "messages" '
    '(a list of {"role", "content"}); or "context", "choices" (a list) and "label" (the index of the right one).'
)
_COLUMNS: dict[DatasetKind, frozenset[str]] = {
    "messages": frozenset({"messages"}),
    "choices": frozenset({"context", "choices", "label"}),
    "instruction": frozenset({"instruction", "output"}),
    "text": frozenset({"text"}),
}
KNOWN_COLUMNS = frozenset({"input"}).union(*_COLUMNS.values())
"""Every column that goes into a record."""


def parse_line(line: str, where: str) -> Mapping[str, Any]:
    """The JSON object on one line; ``where`` (``"line 3"``) goes into the error.

    Raises:
        DatasetInvalidError: it is no JSON object.
    """
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise invalid(f"{where} is not JSON ({error})", COLUMNS_REMEDY) from error
    if not isinstance(row, dict):
        raise invalid(f"{where} is not a JSON object", COLUMNS_REMEDY)
    return row


def kind_of(row: Mapping[str, Any], where: str) -> DatasetKind:
    """The kind of record that the columns of ``row`` make.

    Raises:
        DatasetInvalidError: they make none.
    """
    for kind, columns in _COLUMNS.items():
        if columns <= row.keys():
            return kind
    found = ", ".join(repr(str(key)[:40]) for key in list(row)[:10]) or "none"
    raise invalid(f"{where} has none of the known sets of columns; it has {found}", COLUMNS_REMEDY)


def parse_row(row: Mapping[str, Any], kind: DatasetKind, where: str) -> Record | None:
    """The record of ``row``, or ``None`` where there is nothing in it to learn from (empty strings).

    Raises:
        DatasetInvalidError: a value is of the wrong type, or a label is out of range.
    """
    return _PARSERS[kind](row, where)


def _text(row: Mapping[str, Any], where: str) -> Record | None:
    text = _string(row, "text", where)
    return TextRecord(text) if text.strip() else None


def _instruction(row: Mapping[str, Any], where: str) -> Record | None:
    instruction, output = _string(row, "instruction", where), _string(row, "output", where)
    given = "" if row.get("input") is None else _string(row, "input", where)
    if not (instruction.strip() or given.strip()) or not output.strip():
        return None
    return InstructionRecord(instruction, given, output)


def _messages(row: Mapping[str, Any], where: str) -> Record | None:
    values = row["messages"]
    if not isinstance(values, list):
        raise invalid(f'"messages" of {where} is not a list', COLUMNS_REMEDY)
    messages = []
    for value in values:
        if not isinstance(value, dict):
            raise invalid(f'"messages" of {where} holds something that is not an object', COLUMNS_REMEDY)
        for key in ("role", "content"):
            if key not in value:
                raise invalid(f'a message of {where} has no "{key}"', COLUMNS_REMEDY)
        messages.append(Message(_string(value, "role", where), _string(value, "content", where)))
    if messages and not any(message.role == "assistant" for message in messages):
        raise invalid(f'{where} has no message of the role "assistant", so there is nothing to learn', COLUMNS_REMEDY)
    learnable = any(message.role == "assistant" and message.content.strip() for message in messages)
    return MessagesRecord(tuple(messages)) if learnable else None


def _choices(row: Mapping[str, Any], where: str) -> Record | None:
    context, choices, label = _string(row, "context", where), row["choices"], row["label"]
    if not isinstance(choices, list) or not all(isinstance(choice, str) for choice in choices):
        raise invalid(f'"choices" of {where} is not a list of strings', COLUMNS_REMEDY)
    choices = [_string({"choices": choice}, "choices", where) for choice in choices]
    if len(choices) < 2:
        raise invalid(f"{where} has {len(choices)} choices", "Give at least 2 choices in each record.")
    if isinstance(label, bool) or not isinstance(label, int):
        raise invalid(
            f'"label" of {where} is not a whole number', "The label is the index of the right choice, from 0."
        )
    if not 0 <= label < len(choices):
        raise invalid(
            f'"label" of {where} is {label}, but there are {len(choices)} choices',
            f"The label is the index of the right choice, from 0 to {len(choices) - 1}.",
        )
    if any(not choice.strip() for choice in choices):
        return None
    return ChoicesRecord(context, tuple(choices), label)


def _string(row: Mapping[str, Any], column: str, where: str) -> str:
    value = row[column]
    if not isinstance(value, str):
        raise invalid(f'"{column}" of {where} is not a string', COLUMNS_REMEDY)
    try:
        value.encode()
    except UnicodeEncodeError as error:  # JSON can spell half of a surrogate pair, which no tokenizer takes
        raise invalid(f'"{column}" of {where} is not valid Unicode', "Remove the broken characters.") from error
    return value


_PARSERS: dict[DatasetKind, Callable[[Mapping[str, Any], str], Record | None]] = {
    "text": _text,
    "instruction": _instruction,
    "messages": _messages,
    "choices": _choices,
}


def invalid(what: str, remedy: str) -> DatasetInvalidError:
    """The error of a dataset that cannot be read: ``what`` continues "The dataset cannot be used: "."""
    return DatasetInvalidError(f"The dataset cannot be used: {what}.", field="dataset", remedy=remedy)

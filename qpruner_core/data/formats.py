"""From the columns of a row to a typed record."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from qpruner_core.data.bad_record import BadRecordError
from qpruner_core.data.conversations import Note, messages_record, preferred_record, prompted_record
from qpruner_core.data.records import ChoicesRecord, DatasetKind, InstructionRecord, Record, TextRecord
from qpruner_core.data.values import optional_string, string
from qpruner_core.dataset_forms import ACCEPTED_COLUMNS

Row = Mapping[str, Any]
Parse = Callable[[Row, Note], Record | None]
"""From a row to its record. The second argument is called with the name of each field that is not used."""

COLUMNS_REMEDY = f"Give each record {ACCEPTED_COLUMNS}"

_QUESTIONS = ("instruction", "prompt", "question", "query")
_INPUTS = ("input", "context")
_ANSWERS = ("output", "completion", "response", "answer")

REJECTED = "rejected"
"""Column of a preference pair that is not learned."""
_LABEL = "label"
"""Column that rates single answers true or false (or 1 or 0), as for TRL's KTO."""
_RATINGS = {"true": True, "1": True, "1.0": True, "false": False, "0": False, "0.0": False}


@dataclass(frozen=True)
class Layout:
    """How columns form a record: its kind, the columns that are read, and the reading function.

    ``other_label``: whether the column ``label`` has a number other than a rating.
    """

    kind: DatasetKind
    columns: frozenset[str]
    parse: Parse
    is_preference: bool = False
    is_undesired: bool = False
    other_label: bool = False


def layout_of(row: Row) -> Layout | None:
    """The layout of the columns of ``row``, or ``None`` if they match no known one."""
    question, given, answer = (_first(row, names) for names in (_QUESTIONS, _INPUTS, _ANSWERS))
    if "messages" in row:
        parse: Parse = functools.partial(messages_record, column="messages")
        return _rated(row, _layout("messages", parse, "messages", "system", "tools"))
    if "chosen" in row and answer is None:
        return _layout(
            "messages", functools.partial(preferred_record, question=question, given=given),
            "chosen", "conversations", "system", "tools", question, given, is_preference=True,
        )  # fmt: skip
    if "conversations" in row:
        parse = functools.partial(messages_record, column="conversations")
        return _rated(row, _layout("messages", parse, "conversations", "system", "tools"))
    if "choices" in row:
        context, label = _first(row, ("context", "question")), _first(row, ("label", "answer"))
        if context is not None and label is not None:
            return _layout("choices", lambda row, _: _choices(row, context, label), "choices", context, label)
    if question is not None and answer is not None:
        parse = functools.partial(_instruction, question=question, given=given, answer=answer)
        return _rated(row, _layout("instruction", parse, question, given, answer, "system", "history", "tools"))
    return _layout("text", _text, "text") if "text" in row else None


def no_layout(row: Row) -> BadRecordError:
    """The error of a row whose columns match no known layout."""
    found = ", ".join(repr(str(key)[:40]) for key in list(row)[:10]) or "none"
    return BadRecordError(f"it has none of the known sets of columns, but {found}", COLUMNS_REMEDY)


def _layout(kind: DatasetKind, parse: Parse, *columns: str | None, is_preference: bool = False) -> Layout:
    return Layout(kind, frozenset(name for name in columns if name is not None), parse, is_preference)


def _rated(row: Row, layout: Layout) -> Layout:
    """``layout`` with a rating column if ``label`` is one; a bad answer is not learned."""
    label = row.get(_LABEL)
    rating = _RATINGS.get(str(label).strip().lower())
    if rating is None and label is not None:
        return replace(layout, other_label=_is_number(label))
    columns = layout.columns | {_LABEL}
    if rating is False:
        return replace(layout, columns=columns, parse=_nothing, is_undesired=True)
    return replace(layout, columns=columns)


def _is_number(label: Any) -> bool:
    try:
        return math.isfinite(float(label))
    except (TypeError, ValueError, OverflowError):
        return False


def _nothing(_: Row, _note: Note) -> None:
    return None


def _first(row: Row, names: tuple[str, ...]) -> str | None:
    return next((name for name in names if name in row), None)


def _text(row: Row, _: Note) -> Record | None:
    text = string(row["text"], "text")
    return TextRecord(text) if text.strip() else None


def _instruction(row: Row, note: Note, question: str, given: str | None, answer: str) -> Record | None:
    if isinstance(row[question], list) or isinstance(row[answer], list):
        if row.get("history"):
            raise BadRecordError('"history" beside a list of messages')
        return prompted_record(row, note, question, given, answer)
    asked, said = string(row[question], question), string(row[answer], answer)
    context = "" if given is None else optional_string(row[given], given)
    if row.get("tools"):
        note("tools")
    if not (asked.strip() or context.strip()) or not said.strip():
        return None
    system = optional_string(row.get("system"), "system")
    return InstructionRecord(asked, context, said, system, _history(row.get("history")))


def _history(value: Any) -> tuple[tuple[str, str], ...]:
    if value in (None, "", []):
        return ()
    if not isinstance(value, list) or not all(isinstance(pair, list) and len(pair) == 2 for pair in value):
        raise BadRecordError('"history" is not a list of pairs of question and answer')
    return tuple((string(asked, "history"), string(said, "history")) for asked, said in value)


def _choices(row: Row, context_column: str, label_column: str) -> Record | None:
    context, choices, label = string(row[context_column], context_column), row["choices"], row[label_column]
    if not isinstance(choices, list) or not all(isinstance(choice, str) for choice in choices):
        raise BadRecordError('"choices" is not a list of strings')
    choices = [string(choice, "choices") for choice in choices]
    if len(choices) < 2:
        raise BadRecordError(f"it has {len(choices)} choices", "Give at least 2 choices per record.")
    if isinstance(label, float) and label.is_integer():
        label = int(label)  # pandas writes whole numbers so in a column with gaps
    if isinstance(label, bool) or not isinstance(label, int):
        raise BadRecordError(
            f'"{label_column}" is not a whole number', "The label is the index of the right choice, from 0."
        )
    if not 0 <= label < len(choices):
        raise BadRecordError(
            f'"{label_column}" is {label}, but there are {len(choices)} choices',
            f"The label is the index of the right choice, from 0 to {len(choices) - 1}.",
        )
    if any(not choice.strip() for choice in choices):
        return None
    return ChoicesRecord(context, tuple(choices), label)

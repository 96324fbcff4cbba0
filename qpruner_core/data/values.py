"""Checked values of a row: strings with normalised line ends, and lists of them."""

from __future__ import annotations

from typing import Any

from qpruner_core.data.bad_record import BadRecordError

_WITHOUT_SPACES = 10  # bytes beyond one per character, for five Chinese characters: words need no space between


def string(value: Any, column: str) -> str:
    r"""``value`` with every line end as ``\n``.

    Raises:
        BadRecordError: not a string, or one with half of a surrogate pair, which no tokenizer accepts.
    """
    if not isinstance(value, str):
        raise BadRecordError(f'"{column}" is not a string')
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise BadRecordError(f'"{column}" is not valid Unicode', "Remove the broken characters.") from error
    return value.replace("\r\r\n", "\n").replace("\r\n", "\n").replace("\r", "\n")


def optional_string(value: Any, column: str) -> str:
    """:func:`string`, with "" for null."""
    return "" if value is None else string(value, column)


def spoken(content: Any, column: str) -> str:
    """The text of a message: a string, or a list of text parts; "" for null.

    Raises:
        BadRecordError: another type, or a part that is not text.
    """
    if not isinstance(content, list):
        return optional_string(content, column)
    texts = []
    for part in content:
        if isinstance(part, dict):
            kind = part.get("type", "text")
            if kind != "text" or "text" not in part:
                raise BadRecordError(f'"{column}" has a part of the type {str(kind)[:40]!r}', "Give text only.")
            part = part["text"]
        texts.append(string(part, column))
    return "".join(texts)


def plain_json(value: Any, column: str) -> Any:
    """A JSON value with its strings normalised by :func:`string`, and without nulls in its objects."""
    if isinstance(value, str):
        return string(value, column)
    if isinstance(value, list):
        return [plain_json(one, column) for one in value]
    if isinstance(value, dict):
        return {string(key, column): plain_json(one, column) for key, one in value.items() if one is not None}
    if value is None or isinstance(value, bool | int | float):
        return value
    raise BadRecordError(f'"{column}" holds a value of the type {type(value).__name__}')


def may_matter(value: Any) -> bool:
    """Whether an unused value has words or structure; losing an id, a number or a source does no harm."""
    if isinstance(value, str):
        return len(value.split()) > 1 or len(value.encode(errors="replace")) - len(value) >= _WITHOUT_SPACES
    return isinstance(value, list | dict) and bool(value)

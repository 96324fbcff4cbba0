"""Rows of a text file: JSON lines, JSON arrays, and delimited tables."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable, Iterator, Mapping
from itertools import chain
from typing import Any

from qpruner_core.data.bad_record import BadRecordError, invalid
from qpruner_core.data.limits import LONGEST_RECORD
from qpruner_core.data.text_file import TextFile
from qpruner_core.errors import DatasetInvalidError
from qpruner_core.sizes import format_bytes

Row = Mapping[str, Any]
Rows = Iterator[tuple[str, Row | BadRecordError]]
"""Each row with its place ("line 3"), or the reason why it is none."""

_CHUNK = 2**20
_BETWEEN = re.compile(r"[\s,]*")
_INDEX = re.compile(r"\s*[0-9]{1,18}(?:\.0)?\s*")
_NESTED_CELL = re.compile(r"\s*[\[{]")
_NESTED_COLUMNS = frozenset({"messages", "conversations", "tools", "history", "choices"})
_MAY_GO_ON = 16  # characters: a fault closer to the end of the text read so far may be caused by the cut
_JSON_REMEDY = "Give one JSON object per line (.jsonl), or one array of them (.json)."


def json_lines(file: TextFile, first: str = "") -> Rows:
    """One object per line; ``first`` is a line that was already read."""
    for line in chain([first] if first else [], iter(lambda: file.readline(LONGEST_RECORD + 1), "")):
        place = f"line {file.line - line.endswith(chr(10))}"
        if len(line) > LONGEST_RECORD:
            raise _too_long(place)
        if line.strip():
            yield place, _object(line)


def json_document(file: TextFile, is_known: Callable[[Row], bool]) -> Rows:
    """An array of objects, or objects one after the other, on separate lines or not.

    An object without known columns that holds one list of objects stands for that list.
    """
    first = ""
    while not first.strip() and (line := file.readline(LONGEST_RECORD + 1)):
        first = line
    if first.lstrip().startswith("["):
        yield from _elements(file, first.lstrip()[1:], closed=True)
        return
    starts_a_line = isinstance(_object(first), dict) or not first.lstrip().startswith("{")
    for place, row in json_lines(file, first) if starts_a_line else _elements(file, first, closed=False):
        lists = [value for value in row.values() if _is_rows(value)] if isinstance(row, Mapping) else []
        if isinstance(row, Mapping) and len(lists) == 1 and not is_known(row):
            yield from ((f"record {number}", inner) for number, inner in enumerate(lists[0], start=1))
        else:
            yield place, row


def delimited(file: TextFile, delimiters: str, is_known: Callable[[Row], bool]) -> Rows:
    """A table whose first line names its columns, with the first of ``delimiters`` that yields known columns.

    Cells of message and list columns are parsed as JSON; any other cell is text, whatever it looks like. Beside
    ``choices``, a ``label`` or ``answer`` such as ``1`` or ``1.0`` becomes a number.

    Raises:
        DatasetInvalidError: an unclosed quote, or two columns with one name.
    """
    csv.field_size_limit(max(csv.field_size_limit(), LONGEST_RECORD))
    lines = _RowLines(file)
    first = next((line for line in lines if line.strip()), "")
    skipped = max(0, file.line - 2)
    headers = ((delimiter, next(csv.reader([first], delimiter=delimiter), [])) for delimiter in delimiters)
    delimiter = next((one for one, header in headers if is_known(dict.fromkeys(header))), delimiters[0])
    reader = csv.reader(chain([first], lines), delimiter=delimiter, strict=True)
    header: list[str] = []
    while True:
        lines.length = 0
        began = skipped + reader.line_num + 1
        try:
            cells = next(reader, None)
        except csv.Error as error:
            if "end of data" in str(error):  # it has swallowed every line since
                raise invalid(f"line {began} opens a quote that nothing closes", "Close the quote.") from error
            yield f"line {began}", BadRecordError(f"it is not a row of a table ({error})")
            continue
        if cells is None:
            return
        if not header:
            header = _distinct([name.strip() for name in cells])
        elif cells and len(cells) != len(header):
            yield (
                f"line {began}",
                BadRecordError(f"it has {len(cells)} cells, but the first line names {len(header)} columns"),
            )
        elif cells:
            yield (
                f"line {began}",
                {name: _cell(name, text, "choices" in header) for name, text in zip(header, cells, strict=True)},
            )


class _RowLines(Iterator[str]):
    """Lines of a file, as long as those of one row together do not exceed the size of a record."""

    def __init__(self, file: TextFile) -> None:
        self._file = file
        self.length = 0

    def __next__(self) -> str:
        line = self._file.readline(LONGEST_RECORD + 1)
        self.length += len(line)
        if self.length > LONGEST_RECORD:
            raise _too_long(f"line {self._file.line - line.endswith(chr(10))}")
        if not line:
            raise StopIteration
        return line


def _distinct(header: list[str]) -> list[str]:
    repeated = next((name for index, name in enumerate(header) if name and name in header[:index]), None)
    if repeated is not None:
        raise invalid(f"two of its columns have the name {repeated[:40]!r}", "Rename or remove one of them.")
    return header


def _cell(name: str, text: str, has_choices: bool) -> Any:
    if has_choices and name in ("label", "answer") and _INDEX.fullmatch(text):
        return int(text.partition(".")[0])
    if name != "text" and _NESTED_CELL.match(text):
        try:
            value = json.loads(text)
        except (ValueError, RecursionError):
            return text
        if name in _NESTED_COLUMNS or _are_messages(value):
            return value
    return text


def _are_messages(value: Any) -> bool:
    messages = value if isinstance(value, list) else [value]
    return bool(messages) and all(
        isinstance(one, dict) and ({"role", "content"} <= one.keys() or {"from", "value"} <= one.keys())
        for one in messages
    )


def _object(line: str) -> Row | BadRecordError:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError) as error:
        return BadRecordError(f"it is not JSON ({error})", _JSON_REMEDY)
    return _checked_object(value)


def _checked_object(value: Any) -> Row | BadRecordError:
    return value if isinstance(value, dict) else BadRecordError("it is not a JSON object", _JSON_REMEDY)


def _is_rows(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(one, dict) for one in value)


def _elements(file: TextFile, text: str, *, closed: bool) -> Rows:
    """Values in ``text`` and the following text, up to a bracket if the array is to be ``closed``."""
    decoder = json.JSONDecoder()
    number = 1
    position = 0
    at_end = False
    while True:
        position = _BETWEEN.match(text, position).end()  # type: ignore[union-attr]  # it matches nothing, too
        if closed and text.startswith("]", position):
            if (text[position + 1 :] + file.read(_CHUNK)).strip():
                raise invalid("something follows its array", _JSON_REMEDY)
            return
        fault: Exception | None = None
        try:
            value, end = decoder.raw_decode(text, position)
        except (ValueError, RecursionError) as error:
            fault, end = error, len(text)
        if end == len(text) and not at_end and not _is_certain(fault, len(text)):  # it may continue
            if len(text) - position > LONGEST_RECORD:
                raise _too_long(f"record {number}")
            more = file.read(max(_CHUNK, len(text) - position))
            text, position, at_end = text[position:] + more, 0, not more
            continue
        if position == len(text) and not closed:
            return
        if fault is not None:
            what = "its array is not closed" if position == len(text) else f"record {number} is not JSON ({fault})"
            raise invalid(what, _JSON_REMEDY) from fault
        if end - position > LONGEST_RECORD:
            raise _too_long(f"record {number}")
        yield f"record {number}", _checked_object(value)
        number, position = number + 1, end


def _is_certain(fault: Exception | None, read: int) -> bool:
    """Whether more text cannot mend the ``fault`` in the ``read`` characters."""
    if isinstance(fault, json.JSONDecodeError):
        return fault.pos + _MAY_GO_ON < read and not fault.msg.startswith("Unterminated string")
    return fault is not None


def _too_long(place: str) -> DatasetInvalidError:
    return invalid(f"{place} is longer than {format_bytes(LONGEST_RECORD)}", "Split it into several records.")

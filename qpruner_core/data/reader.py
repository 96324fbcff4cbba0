"""Reading a dataset, line by line, into typed records."""

from __future__ import annotations

import codecs
import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from qpruner_core.data.formats import invalid, kind_of, parse_line, parse_row
from qpruner_core.data.limits import LONGEST_RECORD
from qpruner_core.data.parquet import parquet_rows
from qpruner_core.data.records import DatasetKind, Record, TextDataset, TextRecord
from qpruner_core.data.source import locate_dataset
from qpruner_core.sizes import format_bytes
from qpruner_core.source_policy import SourcePolicy

_LONGEST_PARAGRAPH = 4096  # characters; longer ones are cut at a line or a word, so that any text can be split
_PARQUET_EXPANSION = 8  # how many times its size a Parquet file may come to; text comes to three or four


@dataclass(frozen=True)
class DatasetDescription:
    """What a dataset holds: kind and number of records; bytes and SHA-256 (hex) of its files."""

    kind: DatasetKind
    records: int
    bytes: int
    sha256: str


def inspect_dataset(reference: str, policy: SourcePolicy) -> DatasetDescription:
    """Read the whole dataset once, keeping nothing, and describe it. Raises as :func:`read_dataset`."""
    files = locate_dataset(reference, policy)
    scan = _Scan(files, policy.max_dataset_bytes)
    count = sum(1 for _ in scan)
    return DatasetDescription(scan.checked_kind(count), count, scan.bytes, scan.digest.hexdigest())


def read_dataset(reference: str, policy: SourcePolicy) -> TextDataset:
    """The records of a ``.txt``, ``.jsonl`` or ``.parquet`` file, an upload, or a hub dataset.

    Raises:
        DatasetNotFoundError, DatasetInvalidError (with the line at fault), DatasetTooLargeError,
        PathNotAllowedError, HubUnavailableError; all with the field ``dataset``.
    """
    files = locate_dataset(reference, policy)
    scan = _Scan(files, policy.max_dataset_bytes)
    records = tuple(scan)
    kind = scan.checked_kind(len(records))
    is_prose = files[0].suffix.lower() == ".txt"
    return TextDataset(kind, records, is_prose, scan.bytes, scan.digest.hexdigest())


class _Scan:
    """One pass over the files: yields records, and knows kind, bytes and digest when it is through."""

    def __init__(self, files: tuple[Path, ...], max_bytes: int) -> None:
        self._files = files
        self._max_bytes = max_bytes
        self._kind: DatasetKind | None = None
        self.bytes = 0
        self.digest = hashlib.sha256()

    def __iter__(self) -> Iterator[Record]:
        for path in self._files:
            match path.suffix.lower():
                case ".txt":
                    yield from self._paragraphs(path)
                case ".jsonl":
                    yield from self._objects(path)
                case _:
                    yield from self._parquet_rows(path)

    def checked_kind(self, count: int) -> DatasetKind:
        """The kind of all records, once the pass is through; raises if there were none."""
        if self.bytes == 0:
            raise invalid("it is empty", "Give a file with some text.")
        if count == 0 or self._kind is None:
            raise invalid("it holds only empty strings", "Give records with some text in them.")
        return self._kind

    def _lines(self, path: Path, *, may_be_cut: bool) -> Iterator[tuple[int, str]]:
        """The lines with their numbers; one that is longer than a record may be comes in pieces, or is refused."""
        decoder = codecs.getincrementaldecoder("utf-8")()
        number = 1
        with path.open("rb") as stream:
            while True:
                raw = stream.readline(LONGEST_RECORD + 1)
                if len(raw) > LONGEST_RECORD and not may_be_cut:
                    raise invalid(
                        f"line {number} is longer than {format_bytes(LONGEST_RECORD)}", "Split it into several records."
                    )
                if b"\0" in raw:
                    raise invalid(f"line {number} holds a zero byte: the file is binary", "Give a UTF-8 text file.")
                is_first = stream.tell() == len(raw)
                self.bytes += len(raw)
                self.digest.update(raw)
                text = raw.removeprefix(codecs.BOM_UTF8) if is_first else raw
                try:
                    yield number, decoder.decode(text, final=not (may_be_cut and raw))
                except UnicodeDecodeError as error:
                    raise invalid(f"line {number} is not UTF-8", "Save the file as UTF-8 text.") from error
                if not raw:
                    return
                number += raw.endswith(b"\n")

    def _paragraphs(self, path: Path) -> Iterator[Record]:
        self._kind = "text"
        paragraph: list[str] = []
        size = 0
        for _, line in self._lines(path, may_be_cut=True):
            if line.strip() and size + len(line) <= _LONGEST_PARAGRAPH:
                paragraph.append(line)
                size += len(line)
                continue
            yield from _text_records(paragraph)
            paragraph, size = ([line], len(line)) if line.strip() else ([], 0)
        yield from _text_records(paragraph)

    def _objects(self, path: Path) -> Iterator[Record]:
        for number, line in self._lines(path, may_be_cut=False):
            if line.strip():
                yield from self._record(parse_line(line, f"line {number}"), f"line {number}")

    def _parquet_rows(self, path: Path) -> Iterator[Record]:
        with path.open("rb") as stream:
            while block := stream.read(1 << 20):
                self.bytes += len(block)
                self.digest.update(block)
        for number, row in enumerate(parquet_rows(path, _PARQUET_EXPANSION * self._max_bytes), start=1):
            yield from self._record(row, f"row {number}")

    def _record(self, row: Mapping[str, Any], where: str) -> Iterator[Record]:
        kind = kind_of(row, where)
        if self._kind is None:
            self._kind = kind
        if kind != self._kind:
            raise invalid(
                f"{where} is of the kind {kind!r} where those before are {self._kind!r}",
                "Give records of one kind in one file.",
            )
        record = parse_row(row, kind, where)
        if record is not None:
            yield record


def _text_records(lines: list[str]) -> Iterator[TextRecord]:
    text = "".join(lines).strip()
    start = 0
    while len(text) - start > _LONGEST_PARAGRAPH:
        end = start + _LONGEST_PARAGRAPH
        space = text.rfind(" ", start + 1, end)
        end = space if space > 0 else end
        yield TextRecord(text[start:end].strip())
        start = end
        while text[start].isspace():
            start += 1
    if start < len(text):
        yield TextRecord(text[start:])

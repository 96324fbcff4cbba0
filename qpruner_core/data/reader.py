"""Read a dataset, row by row, into typed records."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from qpruner_core.data.bad_record import BadRecordError, invalid
from qpruner_core.data.formats import COLUMNS_REMEDY, REJECTED, Layout, layout_of, no_layout
from qpruner_core.data.left_out import LeftOut
from qpruner_core.data.parquet import parquet_rows
from qpruner_core.data.passages import LONGEST_PASSAGE, passages, with_words
from qpruner_core.data.records import DatasetKind, Record, TextDataset, TextRecord
from qpruner_core.data.rows import Rows, delimited, json_document, json_lines
from qpruner_core.data.source import HubDataset, find_dataset, locate_dataset
from qpruner_core.data.text_file import TextFile
from qpruner_core.data.values import may_matter
from qpruner_core.dataset_forms import file_format
from qpruner_core.local_paths import unreadable_as_error
from qpruner_core.source_policy import SourcePolicy

_PARQUET_EXPANSION = 8  # largest decoded size of a Parquet file in multiples of its size; text reaches three or four
_LONGEST_PIECE = 2**16  # characters of a line of prose that are read at once
_MOST_UNUSED = 20


@dataclass(frozen=True)
class DatasetDescription:
    """Summary of a dataset: kind and number of records; bytes and SHA-256 (hex) of its files.

    ``text_bytes``: lower bound of the bytes of its text. ``warnings``: records left out and columns not used.
    """

    kind: DatasetKind
    records: int
    bytes: int
    sha256: str
    text_bytes: int
    warnings: tuple[str, ...] = ()


@unreadable_as_error("dataset")
def inspect_dataset(
    reference: str, policy: SourcePolicy, check_stop: Callable[[], None] = lambda: None
) -> DatasetDescription:
    """Read the whole dataset once, keeping nothing, and describe it. Raises as :func:`read_dataset`.

    ``check_stop`` is called again and again while it is read, and raises an error to end that.
    """
    return _describe(locate_dataset(reference, policy), policy, check_stop)


@unreadable_as_error("dataset")
def inspect_dataset_here(reference: str, policy: SourcePolicy) -> DatasetDescription | None:
    """:func:`inspect_dataset` without downloads: ``None`` for a hub dataset that is not in the cache."""
    found = find_dataset(reference, policy)
    if isinstance(found, HubDataset):
        return _describe(found.fetch(policy), policy) if found.is_here else None
    return _describe(found, policy)


def _describe(
    files: tuple[Path, ...], policy: SourcePolicy, check_stop: Callable[[], None] = lambda: None
) -> DatasetDescription:
    scan = _Scan(files, policy.max_dataset_bytes, check_stop)
    count = sum(1 for _ in scan)
    kind = scan.checked_kind(count)
    return DatasetDescription(kind, count, scan.bytes, scan.digest.hexdigest(), scan.text_bytes, scan.warnings())


@unreadable_as_error("dataset")
def read_dataset(reference: str, policy: SourcePolicy) -> TextDataset:
    r"""Read the records of a file (:data:`~qpruner_core.dataset_forms.SUFFIXES`), an upload, or a hub dataset.

    Every line end is read as ``\n``, also in JSON strings. Unusable records are left out; the dataset's ``warnings``
    name them and the reasons.

    Raises:
        DatasetNotFoundError, DatasetInvalidError (with the line at fault), DatasetTooLargeError, PathNotAllowedError,
            HubUnavailableError; all with the field ``dataset``.
    """
    files = locate_dataset(reference, policy)
    scan = _Scan(files, policy.max_dataset_bytes)
    records = tuple(scan)
    kind = scan.checked_kind(len(records))
    is_prose = file_format(files[0].name) == ".txt"
    return TextDataset(kind, records, is_prose, scan.bytes, scan.digest.hexdigest(), scan.warnings())


class _Scan:
    """One pass over the files: yields records, and afterwards has kind, bytes, digest and warnings."""

    def __init__(
        self, files: tuple[Path, ...], max_bytes: int, check_stop: Callable[[], None] = lambda: None
    ) -> None:  # fmt: skip
        self._files = files
        self._max_bytes = max_bytes
        self._check_stop = check_stop
        self._kind: DatasetKind | None = None
        self._rows = 0
        self._preferences = 0
        self._undesired = 0
        self._other_labels = 0
        self._empty = 0
        self._unused: dict[str, None] = {}
        self._left_out = LeftOut()
        self.bytes = 0
        self.text_bytes = 0
        self.digest = hashlib.sha256()

    def __iter__(self) -> Iterator[Record]:
        for path in self._files:
            file_type = file_format(path.name)
            if file_type == ".parquet":
                yield from self._parquet_rows(path)
                continue
            room = max(0, self._max_bytes - self.text_bytes)
            with TextFile(path, room, self.digest, self._check_stop) as file:
                yield from self._prose(file) if file_type == ".txt" else self._records(_rows(file, file_type))
            self.bytes += file.size
            self.text_bytes += file.text_size

    def checked_kind(self, count: int) -> DatasetKind:
        """Kind of all records, available after the pass. Raises if there are none, or too many bad ones."""
        if self.bytes == 0:
            raise invalid("it is empty", "Give a file with some text.")
        self._left_out.check(count, self._rows, COLUMNS_REMEDY)
        if self._undesired and self._other_labels:
            raise invalid(
                '"label" is 0 or false for some answers and another number for others, so it may be no rating',
                'Rename or remove the column "label", or give true and false.',
            )
        if count == 0 and self._undesired:
            raise invalid('"label" is false (or 0) for all its answers', "Give answers to learn from.")
        if self._rows == 0 and self._kind is None:
            raise invalid("it has no records", "Give records with some text in them.")
        if count == 0 or self._kind is None:
            raise invalid("it holds only empty strings", "Give records with some text in them.")
        return self._kind

    def warnings(self) -> tuple[str, ...]:
        """Warnings about records left out or not used."""
        warnings = self._left_out.warnings()
        if self._preferences:
            warnings.append(
                f"{self._preferences} records are preference pairs: the chosen answers are learned; the "
                "rejected ones are not used."
            )
        if self._undesired:
            warnings.append(
                f'{self._undesired} records are not used: their "label" is false or 0, which marks an undesired answer.'
            )
        if self._empty:
            are = "record is" if self._empty == 1 else "records are"
            warnings.append(f"{self._empty} {are} not used: they have no message, or no text in the answer.")
        if self._unused:
            names = ", ".join(repr(name[:40]) for name in self._unused)
            warnings.append(f"These columns of the dataset are not used: {names}.")
        return tuple(warnings)

    def _prose(self, file: TextFile) -> Iterator[Record]:
        self._kind = "text"
        return with_words(_paragraphs(file))

    def _parquet_rows(self, path: Path) -> Iterator[Record]:
        with path.open("rb") as stream:
            while block := stream.read(1 << 20):
                self.bytes += len(block)
                self.digest.update(block)
        rows = parquet_rows(path, _PARQUET_EXPANSION * self._max_bytes, self._note_unused)
        self.text_bytes = _PARQUET_EXPANSION * self._max_bytes  # unknown: a string that rows share is stored once
        yield from self._records((f"row {number}", row) for number, row in enumerate(rows, start=1))

    def _records(self, rows: Rows) -> Iterator[Record]:
        for place, row in rows:
            self._check_stop()  # a block of text, or one object with a list, may have a million of them
            self._rows += 1
            try:
                if isinstance(row, BadRecordError):
                    raise row
                record = self._record(row)
            except BadRecordError as error:
                self._left_out.add(place, error.reason, error.remedy)
                continue
            if record is not None:
                yield record

    def _record(self, row: Mapping[str, Any]) -> Record | None:
        layout = layout_of(row)
        if layout is None:
            raise no_layout(row)
        if self._kind is not None and layout.kind != self._kind:
            raise BadRecordError(
                f"it is of the kind {layout.kind!r}, while earlier ones are of the kind {self._kind!r}",
                "Put records of one kind into one file.",
            )
        record = layout.parse(row, self._note_unused)
        self._kind = layout.kind
        self._note_columns(row, layout)
        self._empty += record is None and layout.kind != "text" and not layout.is_undesired
        return record

    def _note_columns(self, row: Mapping[str, Any], layout: Layout) -> None:
        self._preferences += layout.is_preference
        self._undesired += layout.is_undesired
        self._other_labels += layout.other_label
        if layout.other_label:
            self._note_unused("label")
        for name in row:
            if name in layout.columns:
                continue
            if not (layout.is_preference and name == REJECTED) and may_matter(row[name]):
                self._note_unused(name)

    def _note_unused(self, name: str) -> None:
        if len(self._unused) < _MOST_UNUSED:
            self._unused[name] = None


def _rows(file: TextFile, file_type: str | None) -> Rows:
    match file_type:
        case ".json":
            return json_document(file, _is_known)
        case ".csv":
            return delimited(file, ",;\t|", _is_known)
        case ".tsv":
            return delimited(file, "\t", _is_known)
        case _:
            return json_lines(file)


def _is_known(row: Mapping[str, Any]) -> bool:
    return layout_of(row) is not None


def _paragraphs(file: TextFile) -> Iterator[TextRecord]:
    """The text of ``file`` in paragraphs and blank lines; together they are the whole text."""
    paragraph = ""
    at_line_start = True
    while piece := file.readline(_LONGEST_PIECE):
        is_blank = at_line_start and not piece.strip() and piece.endswith("\n")
        at_line_start = piece.endswith("\n")
        if is_blank:
            yield from passages(paragraph)
            yield TextRecord("", piece)
            paragraph = ""
            continue
        if len(paragraph) + len(piece) > LONGEST_PASSAGE and paragraph:
            *whole, rest = passages(paragraph)
            yield from whole
            paragraph = rest.text + rest.end
        paragraph += piece
    yield from passages(paragraph)

"""Rows of a Parquet file, a few at a time: decoded, it may be far larger than on disk."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from qpruner_core.data.bad_record import invalid
from qpruner_core.data.formats import COLUMNS_REMEDY, REJECTED, layout_of, no_layout
from qpruner_core.data.limits import LONGEST_RECORD
from qpruner_core.errors import DatasetInvalidError
from qpruner_core.sizes import format_bytes

_BATCH_ROWS = 1024
_BYTES_A_VALUE = 16  # of a number, or of a reference to a string
_PHYSICAL_TYPES = frozenset({"BYTE_ARRAY", "BOOLEAN", "INT32", "INT64", "FLOAT", "DOUBLE"})


def parquet_rows(path: Path, most_bytes: int, on_unused: Callable[[str], None]) -> Iterator[Mapping[str, Any]]:
    """Rows of ``path``, with the columns that form records. ``on_unused`` is called with the names of other columns
    that may hold text.

    Raises:
        DatasetInvalidError: not a Parquet file, no known set of columns, or more decoded bytes than ``most_bytes`` in
            all or :data:`LONGEST_RECORD` in a row.
    """
    try:
        parquet = importlib.import_module("pyarrow.parquet")
        library = importlib.import_module("pyarrow")
    except ImportError as error:
        raise invalid(
            "it is a Parquet file, and pyarrow is not installed", "Run: pip install pyarrow; or give a .jsonl file."
        ) from error
    try:
        yield from _rows(parquet, path, most_bytes, on_unused)
    except (OSError, ValueError, library.ArrowException) as error:
        raise invalid("it is not a readable Parquet file", "Export it again, or give a .jsonl file.") from error


def _rows(parquet: Any, path: Path, most_bytes: int, on_unused: Callable[[str], None]) -> Iterator[Mapping[str, Any]]:
    metadata = parquet.read_metadata(path)
    names = dict.fromkeys(_column_names(metadata))
    layout = layout_of(names)
    if layout is None:
        raise invalid(f"the file: {no_layout(names).reason}", COLUMNS_REMEDY)
    columns = [name for name in names if name in layout.columns]
    every = metadata.schema.to_arrow_schema().names
    if repeated := next((name for name in columns if every.count(name) > 1), None):
        raise invalid(f"two of its columns have the name {repeated!r}", "Rename or remove one of them.")
    for index, name in enumerate(_column_names(metadata)):
        leaf = metadata.schema.column(index)
        if name not in columns and leaf.physical_type == "BYTE_ARRAY" and not name.endswith(("id", REJECTED)):
            on_unused(name)
    strings = _check_leaves(metadata, set(columns), most_bytes)
    # As a dictionary, a string that many rows share is in memory once, as it is in the file.
    with parquet.ParquetFile(path, metadata=metadata, read_dictionary=strings) as file:
        decoded = 0
        for batch in file.iter_batches(batch_size=_BATCH_ROWS, columns=columns):
            for part in _small_parts(batch):
                decoded += _decoded_bytes(part.columns)
                if decoded > most_bytes:
                    raise _too_much(most_bytes)
                yield from part.to_pylist()


def _column_names(metadata: Any) -> list[str]:
    return [metadata.schema.column(index).path.split(".")[0] for index in range(metadata.num_columns)]


def _check_leaves(metadata: Any, columns: set[str], most_bytes: int) -> list[str]:
    """Paths of the strings below ``columns``; rejects columns that cannot be read in bounded memory."""
    strings, decoded = [], 0
    for index, name in enumerate(_column_names(metadata)):
        if name not in columns:
            continue
        leaf = metadata.schema.column(index)
        if leaf.physical_type not in _PHYSICAL_TYPES:
            raise invalid(f"its column {name!r} is of the type {leaf.physical_type}", "Give strings and whole numbers.")
        if leaf.physical_type == "BYTE_ARRAY":
            strings.append(leaf.path)
        for group in range(metadata.num_row_groups):
            chunk = metadata.row_group(group).column(index)
            decoded += max(chunk.total_uncompressed_size, chunk.num_values * _BYTES_A_VALUE)
    if decoded > most_bytes:
        raise _too_much(most_bytes)
    return strings


def _small_parts(batch: Any) -> Iterator[Any]:
    """Split ``batch`` into parts that are small enough to become Python objects."""
    if _decoded_bytes(batch.columns) <= LONGEST_RECORD:
        yield batch
        return
    if batch.num_rows == 1:
        raise invalid(f"one of its rows has more than {format_bytes(LONGEST_RECORD)}", "Split it into several.")
    middle = batch.num_rows // 2
    yield from _small_parts(batch.slice(0, middle))
    yield from _small_parts(batch.slice(middle))


def _decoded_bytes(arrays: list[Any]) -> int:
    """Bytes of ``arrays`` with every string written out."""
    compute = importlib.import_module("pyarrow.compute")
    types = importlib.import_module("pyarrow.types")
    total = 0
    for array in arrays:
        if types.is_struct(array.type):
            total += _decoded_bytes(array.flatten())
        elif types.is_list(array.type) or types.is_large_list(array.type):
            total += len(array) * _BYTES_A_VALUE + _decoded_bytes([array.flatten()])
        elif types.is_dictionary(array.type):
            lengths = compute.take(compute.binary_length(array.dictionary), array.indices)
            total += len(array) * _BYTES_A_VALUE + (compute.sum(lengths).as_py() or 0)
        elif types.is_nested(array.type):
            raise invalid(f"it has a column of the type {array.type}", "Give strings, whole numbers and lists of them.")
        else:
            total += len(array) * _BYTES_A_VALUE
    return total


def _too_much(most_bytes: int) -> DatasetInvalidError:
    return invalid(
        f"it has more than {format_bytes(most_bytes)} once it is decoded",
        "Give a part of it: some megabytes of typical text are enough to calibrate and recover.",
    )

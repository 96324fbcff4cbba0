"""Accepted forms of a dataset: files and columns, for people and for the reader.

Errors, command line, API and page use these texts. The module imports nothing slow.
"""

from __future__ import annotations

from datetime import date
from pathlib import PurePath

TEXT_FORMATS = (".jsonl", ".ndjson", ".json", ".csv", ".tsv", ".txt")
COMPRESSIONS = (".gz", ".zst")
SUFFIXES = (
    ".jsonl", *(f".jsonl{compression}" for compression in COMPRESSIONS), ".parquet",
    *(f"{suffix}{more}" for suffix in TEXT_FORMATS[1:] for more in ("", *COMPRESSIONS)),
)  # fmt: skip
"""Suffixes of dataset files, in the order of preference if a repository has several."""

FILE_REMEDY = "Give a .jsonl, .json, .csv, .tsv or .txt file (each may be compressed: .gz, .zst), or a .parquet file."

ACCEPTED_COLUMNS = (
    '"text"; or "instruction", "input" (optional) and "output"; or "prompt" and "completion"; or "question" and '
    '"answer"; or "messages" (a list of {"role", "content"}) or "conversations" (of {"from", "value"}); or "context", '
    '"choices" (a list) and "label" (the index of the right one); or "prompt", "chosen" and "rejected". "system", '
    '"history" and "tools" are used if present.'
)
"""The column sets that form a record, in words."""

TEMPLATE_DATE = date(2024, 7, 26)
"""Default date for chat templates that request today's date: the one that Llama's templates use without a clock."""


def file_format(name: str) -> str | None:
    """The format in ``name``, without compression (``".jsonl"``), or ``None`` if unknown."""
    path = PurePath(name.lower())
    suffix = PurePath(path.stem).suffix if path.suffix in COMPRESSIONS else path.suffix
    if suffix == ".parquet" and path.suffix == ".parquet":
        return suffix
    return suffix if suffix in TEXT_FORMATS else None


def is_smaller_than_its_text(name: str) -> bool:
    """Whether the file's size does not tell the amount of its text, because it may be compressed."""
    return PurePath(name.lower()).suffix in (*COMPRESSIONS, ".parquet")

"""What a dataset may look like: files and columns, in words and as the reader has it.

The one place that says it, for errors, command line, API and page; it imports nothing that takes time.
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
"""How the name of a dataset's file may end, in the order of preference where a repository has several."""

FILE_REMEDY = "Give a .jsonl, .json, .csv, .tsv or .txt file (each may be compressed: .gz, .zst), or a .parquet file."

ACCEPTED_COLUMNS = (
    '"text"; or "instruction", "input" (optional) and "output"; or "prompt" and "completion"; or "question" and '
    '"answer"; or "messages" (a list of {"role", "content"}) or "conversations" (of {"from", "value"}); or "context", '
    '"choices" (a list) and "label" (the index of the right one); or "prompt", "chosen" and "rejected". "system", '
    '"history" and "tools" are used where there are any.'
)
"""The columns that make a record, in words; the one place that says it."""

TEMPLATE_DATE = date(2024, 7, 26)
"""What a chat template that asks for today's date is given by default: what Llama's take where there is no clock."""


def file_format(name: str) -> str | None:
    """The format that ``name`` says, without its compression (``".jsonl"``), or ``None`` if it is not known."""
    path = PurePath(name.lower())
    suffix = PurePath(path.stem).suffix if path.suffix in COMPRESSIONS else path.suffix
    if suffix == ".parquet" and path.suffix == ".parquet":
        return suffix
    return suffix if suffix in TEXT_FORMATS else None


def is_smaller_than_its_text(name: str) -> bool:
    """Whether the file's bytes say nothing of how much text it has: it may be compressed."""
    return PurePath(name.lower()).suffix in (*COMPRESSIONS, ".parquet")

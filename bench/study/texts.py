"""The texts of the benchmark: what calibrates pruning, and what perplexity is measured on; never the same."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from pydoc_data.topics import topics

import torch
from transformers import PreTrainedTokenizerBase

from qpruner_core.data.tokenization import encode_stream, start_ids, windows
from qpruner_core.errors import DatasetNotFoundError, DatasetTooShortError

WINDOW = 512
"""Tokens of a window that perplexity is measured on."""

EVALUATED = {"WikiText-2": "text/wikitext2_valid_slice.txt", "PTB": "text/ptb_valid.txt"}
CALIBRATION = {"c4": "text/c4_demo.jsonl", "novels": "text/novels_lambada_passages.jsonl"}
_HELD_OUT = 0.3
"""The share of Python's own text that perplexity is measured on, at its end."""


@dataclass(frozen=True)
class Texts:
    """Texts of the benchmark by name.

    ``calibration``: documents. ``evaluated``: running texts.
    """

    calibration: dict[str, list[str]]
    evaluated: dict[str, str]


def read_texts(data: Path | None) -> Texts:
    """The texts under ``data``, or those that every Python carries.

    Raises:
        DatasetNotFoundError: ``data`` lacks one of the files.
    """
    if data is None:
        return _python_topics()
    return Texts(
        calibration={name: read_documents(data / path) for name, path in CALIBRATION.items()},
        evaluated={name: _read(data / path) for name, path in EVALUATED.items()},
    )


def read_documents(path: Path) -> list[str]:
    """The field ``text`` of every line of a .jsonl file."""
    return [str(json.loads(line)["text"]) for line in _read(path).splitlines() if line.strip()]


def calibration_windows(
    tokenizer: PreTrainedTokenizerBase, documents: list[str], *, sequences: int, length: int
) -> torch.Tensor:
    """``[sequences, length]`` tokens, int64: the documents one after another, the end-of-text token between them.

    Raises:
        DatasetTooShortError: they are fewer tokens.
    """
    enough = documents[: sequences * length]  # a document has at least one token
    rows = windows(encode_stream(tokenizer, enough, separate=True), length, start_ids(tokenizer))
    return _first(rows, sequences, length, "the calibration text")


def evaluated_windows(tokenizer: PreTrainedTokenizerBase, text: str, tokens: int, name: str) -> torch.Tensor:
    """The first ``tokens`` tokens of ``text`` in windows that do not overlap, ``[windows, WINDOW]``, int64.

    Raises:
        DatasetTooShortError: ``text`` has fewer.
    """
    rows = windows(encode_stream(tokenizer, [text], separate=False), WINDOW, start_ids(tokenizer))
    return _first(rows, max(tokens // WINDOW, 1), WINDOW, name)


def _first(rows: torch.Tensor, count: int, length: int, name: str) -> torch.Tensor:
    if len(rows) < count:
        raise DatasetTooShortError(
            f"{name} has {len(rows)} sequences of {length} tokens; {count} are wanted.",
            field="data",
            remedy="Give more text, or ask for fewer --tokens.",
        )
    return rows[:count]


def _python_topics() -> Texts:
    """Python's own help: the articles in alphabetical order, their last part held out."""
    articles = [topics[name] for name in sorted(topics)]
    first = round(len(articles) * (1 - _HELD_OUT))
    return Texts(
        calibration={"python": articles[:first]},
        evaluated={"Python's help": "\n\n".join(articles[first:])},
    )


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise DatasetNotFoundError(
            f"The benchmark's file {path.name} cannot be read: {error.strerror}.",
            field="data",
            remedy=f"Its place is {path.parent.name}/{path.name} under the data folder; without a folder the "
            "benchmark takes the text that Python carries.",
        ) from error

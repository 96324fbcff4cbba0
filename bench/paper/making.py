"""A run as the command line describes it; worker processes make the same again."""

from __future__ import annotations

import argparse
import hashlib
import json
import os
from pathlib import Path

import torch

from bench.off_grid import OFF_GRID, off_grid_model
from bench.paper.amounts import QUICK, Amounts
from bench.paper.measured import PaperEvaluation
from bench.paper.run import PaperRun
from bench.study.texts import Texts, read_texts
from qpruner_core.models import ModelSource, load_tokenizer, resolve_model
from qpruner_core.source_policy import SourcePolicy

_OF_A_ROW = ("ratios", "seeds", "repeated", "search_ratio", "search_share", "learning_rates")
SHARED = [name for name in Amounts.model_fields if name not in _OF_A_ROW]
"""Amounts that are the same for all rows of a table."""


def amounts_of(options: argparse.Namespace) -> Amounts:
    """The usual or quick amounts with what the command line names."""
    chosen = QUICK if options.quick else Amounts()
    named = {name: value for name, value in vars(options).items() if name in Amounts.model_fields and value is not None}
    amounts = Amounts.model_validate(chosen.model_dump() | named)
    if options.search_ratio is None and amounts.search_ratio not in amounts.ratios:
        amounts = amounts.model_copy(update={"search_ratio": amounts.ratios[0]})
    return amounts


def make_run(options: argparse.Namespace) -> tuple[PaperRun, str]:
    """The run that the command line describes, and the name of the text that it learns from."""
    amounts = amounts_of(options)
    options.work_dir.mkdir(parents=True, exist_ok=True)
    own = options.model == OFF_GRID
    reference = str(off_grid_model(options.work_dir.resolve() / OFF_GRID)) if own else options.model
    source = resolve_model(reference, SourcePolicy())
    texts = read_texts(options.data)
    work = options.work_dir / _digest(amounts, source, options.data)
    evaluation = PaperEvaluation.read(
        options.data, texts, load_tokenizer(source.directory), tokens=amounts.tokens, examples=amounts.examples
    )
    name, text = _training_text(texts, work)
    return PaperRun(reference, source, text, amounts, evaluation, work, collecting=options.collect), name


def _training_text(texts: Texts, work: Path) -> tuple[str, Path]:
    """The name of the first text of documents that no evaluation has, and a file of it."""
    name, documents = next(iter(texts.calibration.items()))
    file = work / "text.jsonl"
    file.parent.mkdir(parents=True, exist_ok=True)
    partial_file = file.with_suffix(f".{os.getpid()}")
    lines = "".join(json.dumps({"text": document}) + "\n" for document in documents)
    partial_file.write_text(lines, encoding="utf-8")
    partial_file.replace(file)  # another worker may be reading the same
    return name, file


def _digest(amounts: Amounts, source: ModelSource, data: Path | None) -> str:
    """A name for the directory of rows that may stand in one table."""
    parts = [
        amounts.model_dump(include=set(SHARED)),
        source.digest,
        None if data is None else str(data.resolve()),
        torch.get_num_threads(),
    ]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:12]

"""The whole run: what claims rest on first, of every model, then the rest."""

from __future__ import annotations

import argparse
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

import torch
from pydantic import BaseModel

from bench.frontier.amounts import QUICK, Amounts
from bench.frontier.cells import Cell, Setting
from bench.frontier.check import check
from bench.frontier.measuring import Measuring
from bench.frontier.plan import claimed, others
from bench.frontier.predictions import COMPUTED
from bench.frontier.rivals.environments import pythons
from bench.frontier.rows import FrontierReport, FrontierRow, SourceRow
from bench.frontier.workplace import DENSE, prepare
from bench.study.command import read_figures
from bench.study.machine import this_machine
from bench.study.texts import read_texts
from qpruner_core.errors import InvalidConfigError

_SHARED = {"tokens", "sequences", "length"}
"""Amounts that all rows share; the others decide which rows there are."""


class ModelRun:
    """The run on one model."""

    def __init__(self, setting: Setting, source: SourceRow, options: argparse.Namespace) -> None:
        self.source = source
        self.rows: dict[str, FrontierRow] = dict(setting.rows)
        self._setting = Setting(setting.place, setting.amounts, setting.llama, setting.pythons, self.rows)
        self._options = options
        self._measuring = Measuring(self._setting, self.rows, collecting=options.collect)
        self._measuring.begin()

    def claimed(self) -> None:
        """Measure what claims rest on."""
        self._measure(claimed(self._setting, quick=self._options.quick))

    def others(self) -> None:
        """Measure the rest, if it is wanted."""
        if self._options.claims_only:
            return
        self._measure(others(self._setting, quick=self._options.quick))

    def report_into(self, report: FrontierReport) -> None:
        """Add all that was measured."""
        report.sources.append(self.source)
        report.rows += [row.model_copy(update={"types": {}}) for row in self.rows.values()]
        report.checks += check(self._setting, collecting=self._options.collect)

    def _measure(self, cells: Sequence[Cell]) -> None:
        words = self._options.only
        chosen = [cell for cell in cells if not words or any(word in cell.name for word in words)]
        self._measuring.run(chosen, self._options.workers)


def run_frontier(options: argparse.Namespace) -> FrontierReport:
    """Measure whatever was not measured before.

    Raises:
        InvalidConfigError: llama.cpp's programs are not where the options say.
    """
    if options.llama_cpp is None or not (options.llama_cpp / "llama-quantize").is_file():
        raise InvalidConfigError(
            "llama-quantize is not there.", field="llama-cpp", remedy="Name the directory of llama.cpp's programs."
        )
    torch.set_num_threads(1)
    amounts, texts = _amounts(options), read_texts(options.data)
    known = rows_to_take_over(options.output.with_suffix(".json"), amounts) if options.take_over else {}
    report = FrontierReport(
        amounts=amounts, machine=this_machine(), calibration=next(iter(texts.calibration)), sources=[], rows=[],
        computed=COMPUTED, note=options.note,
    )  # fmt: skip
    environments = pythons(options.rivals.resolve()) if amounts.rivals and not options.collect else {}
    runs = []
    for model in amounts.models:
        folder = _folder(options, amounts) / model.replace(" ", "-")
        place, source = prepare(model, folder, texts, amounts, options.gemma and options.gemma.resolve())
        for name, row in known.get(model, []):
            place.rows.take_over(name, row)
        dense = place.rows.find(FrontierRow, DENSE)
        assert dense is not None
        setting = Setting(place, amounts, options.llama_cpp.resolve(), environments, {DENSE: dense})
        runs.append(ModelRun(setting, source, options))
    for run in runs:
        run.claimed()
    for run in runs:
        run.others()
        run.report_into(report)
    return report


def rows_to_take_over(file: Path, amounts: Amounts) -> dict[str, list[tuple[str, BaseModel]]]:
    """Rows of the report ``file`` by model, with the names that they are kept under.

    Raises:
        InvalidConfigError: there is no report, or it has other amounts of text or calibration.
    """
    report = read_figures(file, FrontierReport)
    kept = report.amounts.model_dump(include=_SHARED)
    if kept != amounts.model_dump(include=_SHARED):
        raise InvalidConfigError(
            f"{file} was measured with other amounts.", field="take-over", remedy=f"Its amounts are {kept}."
        )
    found: dict[str, list[tuple[str, BaseModel]]] = {}
    for row in report.rows:
        found.setdefault(row.model, []).append((row.name, row))
    for check_row in report.checks:
        found.setdefault(check_row.model, []).append((check_row.file, check_row))
    return found


def _amounts(options: argparse.Namespace) -> Amounts:
    amounts = QUICK if options.quick else Amounts()
    named: dict[str, object] = {"models": tuple(options.models)} if options.models else {}
    return Amounts.model_validate(amounts.model_dump() | named | {"rivals": not options.no_rivals})


def _folder(options: argparse.Namespace, amounts: Amounts) -> Path:
    """Where rows of these texts and this calibration are."""
    shared = amounts.model_dump(include=_SHARED)
    data = None if options.data is None else str(options.data.resolve())
    digest = hashlib.sha256(json.dumps([shared, data, COMPUTED]).encode()).hexdigest()[:12]
    folder: Path = options.work_dir.resolve() / digest
    return folder

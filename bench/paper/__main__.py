"""LLM-Pruner, QPruner's three methods and ours beside each other.

    python -m bench.paper --data PATH

writes docs/benchmarks/paper.{md,json} and its pictures. Every row and every finished stage is kept: ended and started
again with the same amounts, it goes on where it was. Without --data it takes the text that every Python carries.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from bench.off_grid import OFF_GRID
from bench.paper.amounts import MEANING, Amounts
from bench.paper.cells import measure_beside_each_other, measure_cell
from bench.paper.document import TITLE, render
from bench.paper.making import SHARED, make_run
from bench.paper.methods import METHODS
from bench.paper.rows import PaperReport
from bench.paper.run import PaperRun
from bench.study.command import Document, document_parser, read_figures
from bench.study.machine import this_machine
from qpruner_core.errors import InvalidConfigError

DOCUMENT = Document(TITLE, PaperReport, render)
_PAGE, _WORK = Path("docs/benchmarks/paper.md"), Path(".qpruner/bench-paper")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark, or draw its document again; the exit code."""
    options = _parser().parse_args(arguments)
    return DOCUMENT.publish(options.output, None if options.render else lambda: _run(options))


def _parser() -> argparse.ArgumentParser:
    usual = Amounts()
    parser = document_parser("bench.paper", "The paper's claims on our model.", _PAGE, _WORK)
    parser.add_argument("--model", default=OFF_GRID, help="(default %(default)s: see bench/off_grid.py)")
    parser.add_argument("--quick", action="store_true", help="a trial of a quarter of an hour: less of everything")
    for name, said in MEANING.items():
        value = getattr(usual, name)
        parser.add_argument(f"--{name.replace('_', '-')}", type=type(value), help=f"{said} (default {value})")
    parser.add_argument(
        "--repeated", nargs="+", metavar="METHOD", choices=[method.name for method in METHODS],
        help=f"methods that are measured with every seed (default {usual.repeated})",
    )  # fmt: skip
    parser.add_argument("--ratios", type=float, nargs="+", help=f"of pruning (default {usual.ratios})")
    parser.add_argument(
        "--learning-rates", type=float, nargs="+",
        help=f"of which LLM-Pruner's best is everyone's; one: everyone's (default {usual.learning_rates})",
    )  # fmt: skip
    parser.add_argument("--workers", type=int, default=1, help="processes that measure beside each other")
    parser.add_argument("--take-over", action="store_true", help=(
        "begin with the rows of the document's .json, of the same code, amounts and data"
    ))  # fmt: skip
    parser.add_argument("--render", action="store_true", help="only draw the document again from its .json")
    return parser


def _run(options: argparse.Namespace) -> PaperReport:
    if options.workers < 1:
        raise InvalidConfigError("There must be a process that measures.", field="workers", remedy="Ask for 1 or more.")
    run, text_name = make_run(options)
    if options.take_over:
        _take_over(options.output.with_suffix(".json"), run)
    return _measure(run, options, text_name)


def _take_over(file: Path, run: PaperRun) -> None:
    """Keep the rows of the report ``file`` as if they had been measured here; what settings they are of, they say."""
    report = read_figures(file, PaperReport)
    kept = {name: getattr(report.amounts, name) for name in SHARED}
    if kept != {name: getattr(run.amounts, name) for name in SHARED}:
        raise InvalidConfigError(
            f"{file} was measured with other amounts.", field="take-over", remedy=f"Name the same: {kept}."
        )
    rows: list[Any] = [report.dense, *report.rows, *report.tuning, *report.searches, *report.memory]
    for row in rows:
        run.rows.take_over(row.name, row)


def _measure(run: PaperRun, options: argparse.Namespace, text_name: str) -> PaperReport:
    threads = torch.get_num_threads()
    torch.set_num_threads(threads * options.workers)  # as long as nothing runs beside
    dense = run.dense()
    tuning = run.tune()
    torch.set_num_threads(threads)
    rate = min(tuning, key=lambda row: row.lowest).learning_rate if tuning else run.amounts.learning_rates[0]
    setup = run.setup(rate)
    report = PaperReport(
        model=options.model, amounts=run.amounts, text_name=text_name, learning_rate=rate, machine=this_machine(),
        workers=options.workers, dense=dense, rows=[], tuning=tuning, note=options.note,
    )  # fmt: skip
    if options.workers > 1 and not options.collect:
        measure_beside_each_other(options, run, setup, options.workers)
    for cell in run.cells():
        figures = measure_cell(run, setup, cell)
        report.rows += figures.rows
        report.memory += figures.memory
        report.searches += figures.searches
    return report


if __name__ == "__main__":
    sys.exit(main())

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

import torch

from bench.off_grid import OFF_GRID
from bench.own_files import require_own_document
from bench.paper.amounts import Amounts
from bench.paper.cells import measure_beside_each_other, measure_cell
from bench.paper.document import TITLE, render
from bench.paper.expected import expected_duration
from bench.paper.making import SHARED, make_run
from bench.paper.methods import METHODS
from bench.paper.plots import draw
from bench.paper.progress import duration
from bench.paper.report import PaperReport
from bench.paper.run import PaperRun
from bench.peers.document import PeersReport
from bench.report import this_machine
from qpruner_core.errors import InvalidConfigError, QPrunerError

DOCUMENT = Path("docs/benchmarks/paper.md")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark, or draw its document again; the exit code."""
    options = _parser().parse_args(arguments)
    try:
        require_own_document(options.output, TITLE, PaperReport)
        if not options.render:
            _run(options)
        _render(options)
    except KeyboardInterrupt:
        print("\nEnded. What is finished is kept: the same command goes on behind it.", file=sys.stderr)
        return 130
    except QPrunerError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    usual = Amounts()
    parser = argparse.ArgumentParser(prog="python -m bench.paper", description="The paper's claims on our model.")
    parser.add_argument("--data", type=Path, help="folder with text/ and eval/; without it: Python's own help")
    parser.add_argument("--model", default=OFF_GRID, help="(default %(default)s: see bench/off_grid.py)")
    parser.add_argument("--quick", action="store_true", help="a trial of a quarter of an hour: less of everything")
    for name, kind, said in (
        ("tokens", int, "of each text"),
        ("examples", int, "of each task, at most"),
        ("sequences", int, "that trials are measured on"),
        ("length", int, "tokens of a sequence"),
        ("steps", int, "of recovery"),
        ("batch-size", int, "sequences of a step"),
        ("seeds", int, "of the methods that are repeated"),
        ("trials", int, "of our search"),
        ("paper-trials", int, "of QPruner3's"),
        ("recovery-steps", int, "in each of QPruner3's trials"),
        ("compared-trials", int, "of QPruner3's search where searches are compared"),
        ("compared-steps", int, "of recovery in each of those"),
        ("memory-steps", int, "of recovery where its memory is measured; 0: it is not"),
        ("held-back", int, "sequences kept back from recovery"),
        ("search-ratio", float, "where searches are compared; none of the ratios: they are not"),
        ("search-share", float, "of the way from NF4 to INT8 that the bytes are where searches are compared"),
    ):
        parser.add_argument(f"--{name}", type=kind, help=f"{said} (default {getattr(usual, name.replace('-', '_'))})")
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
    parser.add_argument("--note", default="", help="what else must be known of how the rows came about")
    parser.add_argument("--collect", action="store_true", help="measure nothing: take the rows that there are")
    parser.add_argument("--take-over", action="store_true", help=(
        "begin with the rows of the document's .json, of the same code, amounts and data"
    ))  # fmt: skip
    parser.add_argument("--render", action="store_true", help="only draw the document again from its .json")
    parser.add_argument("--output", type=Path, default=DOCUMENT, help="the document (default %(default)s)")
    parser.add_argument("--peers", type=Path, help="what bench.peers wrote (default peers.json beside the document)")
    parser.add_argument("--work-dir", type=Path, default=Path(".qpruner/bench-paper"), help="where rows are kept")
    return parser


def _run(options: argparse.Namespace) -> None:
    if options.workers < 1:
        raise InvalidConfigError("There must be a process that measures.", field="workers", remedy="Ask for 1 or more.")
    run, text_name = make_run(options)
    if options.take_over:
        _take_over(options.output.with_suffix(".json"), run)
    if not options.collect:
        expected = duration(expected_duration(run) / options.workers)
        print(f"Expected: {expected} in all, good to a factor of two or three.", flush=True)
    report = _measure(run, options, text_name)
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.with_suffix(".json").write_text(report.model_dump_json(indent=1) + "\n", encoding="utf-8")


def _take_over(file: Path, run: PaperRun) -> None:
    """Keep the rows of the report ``file`` as if they had been measured here; what settings they are of, they say."""
    report = PaperReport.model_validate_json(_read(file))
    kept = {name: getattr(report.amounts, name) for name in SHARED}
    if kept != {name: getattr(run.amounts, name) for name in SHARED}:
        raise InvalidConfigError(
            f"{file} was measured with other amounts.", field="take-over", remedy=f"Name the same: {kept}."
        )
    for row in (report.dense, *report.rows):
        run.rows.take_over(row.name, row)
    for rate in report.tuning:
        run.rows.take_over(rate.name, rate)
    for search in report.searches:
        run.rows.take_over(search.name, search)
    for memory in report.memory:
        run.rows.take_over(memory.name, memory)
    if report.speed is not None:
        run.rows.take_over(report.speed.name, report.speed)


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
        report.speed = report.speed or figures.speed
    return report


def _render(options: argparse.Namespace) -> None:
    document: Path = options.output
    report = PaperReport.model_validate_json(_read(document.with_suffix(".json")))
    peers_file = options.peers or document.with_name("peers.json")
    peers = PeersReport.model_validate_json(_read(peers_file)) if peers_file.is_file() else None
    document.write_text(render(report, draw(report, document), peers), encoding="utf-8")
    print(f"Written: {document}")


def _read(path: Path) -> str:
    if not path.is_file():
        raise InvalidConfigError(f"{path} does not exist.", field="render", remedy="Run the benchmark first.")
    return path.read_text(encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())

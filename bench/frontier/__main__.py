"""KL and perplexity against bytes, ours and rivals, on models off the grid.

    python -m bench.frontier --llama-cpp /path/to/bin --data FOLDER

writes docs/benchmarks/frontier.{md,json} and its pictures. Every row is kept as soon as it exists: ended and started
again with the same amounts, it goes on where it was. ``--redraw`` draws the page and pictures again from the JSON.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from collections.abc import Sequence
from pathlib import Path

import torch

from bench.frontier.amounts import QUICK, Amounts
from bench.frontier.cells import Setting
from bench.frontier.check import check
from bench.frontier.document import TITLE, render
from bench.frontier.measuring import Measuring
from bench.frontier.plan import cells
from bench.frontier.plots import draw
from bench.frontier.rivals.environments import pythons
from bench.frontier.rows import FrontierReport, FrontierRow
from bench.frontier.workplace import DENSE, prepare
from bench.own_files import require_own_document
from bench.report import this_machine
from bench.texts import read_texts
from qpruner_core.errors import InvalidConfigError, QPrunerError

DOCUMENT = Path("docs/benchmarks/frontier.md")
_WORK = Path(".qpruner/bench-frontier")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark, or draw its document again; the exit code."""
    options = _parser().parse_args(arguments)
    try:
        require_own_document(options.output, TITLE, FrontierReport)
        if not options.redraw:
            _run(options)
        _draw(options.output)
    except KeyboardInterrupt:
        print("\nEnded. The rows so far are kept: the same command goes on behind them.", file=sys.stderr)
        return 130
    except QPrunerError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench.frontier", description=__doc__)
    parser.add_argument("--llama-cpp", type=Path, help="directory of llama.cpp's programs")
    parser.add_argument("--data", type=Path, help="folder with text/; without it: Python's own help")
    parser.add_argument("--quick", action="store_true", help="20 minutes: one model, less text, fewer rows")
    parser.add_argument("--models", nargs="+", help="(default: all)")
    parser.add_argument("--no-rivals", action="store_true", help="only llama-quantize and ours")
    parser.add_argument("--only", nargs="+", default=[], metavar="WORD", help="only rows with one of these in the name")
    parser.add_argument("--workers", type=int, default=2, help="checkpoints made at once (default %(default)s)")
    parser.add_argument("--gemma", type=Path, help="Gemma's GGUF file, if it is here already")
    parser.add_argument("--rivals", type=Path, default=_WORK / "rivals", help="environments of rivals, made if missing")
    parser.add_argument("--note", default="", help="what else must be known of how the rows came about")
    parser.add_argument("--redraw", action="store_true", help="only draw page and pictures again from the .json")
    parser.add_argument("--output", type=Path, default=DOCUMENT, help="the document (default %(default)s)")
    parser.add_argument("--work-dir", type=Path, default=_WORK, help="where rows are kept (default %(default)s)")
    return parser


def _amounts(options: argparse.Namespace) -> Amounts:
    amounts = QUICK if options.quick else Amounts()
    named: dict[str, object] = {"models": tuple(options.models)} if options.models else {}
    return Amounts.model_validate(amounts.model_dump() | named | {"rivals": not options.no_rivals})


def _run(options: argparse.Namespace) -> None:
    if options.llama_cpp is None or not (options.llama_cpp / "llama-quantize").is_file():
        raise InvalidConfigError(
            "llama-quantize is not there.", field="llama-cpp", remedy="Name the directory of llama.cpp's programs."
        )
    torch.set_num_threads(1)
    amounts, texts = _amounts(options), read_texts(options.data)
    shared = amounts.model_dump(include={"tokens", "sequences", "length"})
    data = None if options.data is None else str(options.data.resolve())
    digest = hashlib.sha256(json.dumps([shared, data]).encode()).hexdigest()[:12]
    environments = pythons(options.rivals.resolve()) if amounts.rivals else {}
    report = FrontierReport(
        amounts=amounts, machine=this_machine(), calibration=next(iter(texts.calibration)), sources=[], rows=[],
        note=options.note,
    )  # fmt: skip
    for model in amounts.models:
        folder = options.work_dir.resolve() / digest / model.replace(" ", "-")
        place, source = prepare(model, folder, texts, amounts, options.gemma and options.gemma.resolve())
        dense = place.rows.find(FrontierRow, DENSE)
        assert dense is not None
        rows = {DENSE: dense}
        setting = Setting(place, amounts, options.llama_cpp.resolve(), environments, rows)
        measuring = Measuring(setting, rows)
        measuring.begin()
        chosen = [
            cell
            for cell in cells(setting, quick=options.quick)
            if not options.only or any(word in cell.name for word in options.only)
        ]
        measuring.run(chosen, options.workers)
        report.sources.append(source)
        report.rows += [row.model_copy(update={"types": {}}) for row in rows.values()]
        report.checks += check(setting)
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.with_suffix(".json").write_text(report.model_dump_json(indent=1) + "\n", encoding="utf-8")


def _draw(document: Path) -> None:
    source = document.with_suffix(".json")
    if not source.is_file():
        raise InvalidConfigError(f"{source} does not exist.", field="redraw", remedy="Run the benchmark first.")
    report = FrontierReport.model_validate_json(source.read_bytes())
    document.write_text(render(report, draw(report, document)), encoding="utf-8")
    print(f"Written: {document}")


if __name__ == "__main__":
    sys.exit(main())

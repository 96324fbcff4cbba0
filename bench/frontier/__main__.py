"""KL and perplexity against bytes, ours and rivals, on models off the grid.

    python -m bench.frontier --llama-cpp /path/to/bin --data FOLDER

writes docs/benchmarks/frontier.{md,json} and its pictures. Every row is kept as soon as it exists: ended and started
again with the same amounts, it goes on where it was. ``--redraw`` draws the page and pictures again from the JSON.
"""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from bench.frontier.document import TITLE, render
from bench.frontier.plots import draw
from bench.frontier.rows import FrontierReport
from bench.frontier.run import run_frontier
from bench.own_files import require_own_document
from qpruner_core.errors import InvalidConfigError, QPrunerError

DOCUMENT = Path("docs/benchmarks/frontier.md")
_WORK = Path(".qpruner/bench-frontier")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark, or draw its document again; the exit code."""
    options = _parser().parse_args(arguments)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
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
    parser.add_argument("--claims-only", action="store_true", help="only the rows that claims rest on")
    parser.add_argument("--only", nargs="+", default=[], metavar="WORD", help="only rows with one of these in the name")
    parser.add_argument("--workers", type=int, default=2, help="checkpoints made at once (default %(default)s)")
    parser.add_argument("--gemma", type=Path, help="Gemma's GGUF file, if it is here already")
    parser.add_argument("--rivals", type=Path, default=_WORK / "rivals", help="environments of rivals, made if missing")
    parser.add_argument("--note", default="", help="what else must be known of how the rows came about")
    parser.add_argument("--collect", action="store_true", help="measure nothing: take the rows that there are")
    parser.add_argument("--redraw", action="store_true", help="only draw page and pictures again from the .json")
    parser.add_argument("--output", type=Path, default=DOCUMENT, help="the document (default %(default)s)")
    parser.add_argument("--work-dir", type=Path, default=_WORK, help="where rows are kept (default %(default)s)")
    return parser


def _run(options: argparse.Namespace) -> None:
    report = run_frontier(options)
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

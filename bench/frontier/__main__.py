"""KL and perplexity against bytes, ours and rivals, on models off the grid.

    python -m bench.frontier --llama-cpp /path/to/bin --data FOLDER

writes docs/benchmarks/frontier.{md,json} and its pictures. Every row is kept as soon as it exists: ended and started
again with the same amounts, it goes on where it was. ``--redraw`` draws the page and pictures again from the JSON.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from bench.frontier.document import TITLE, render
from bench.frontier.plots import draw
from bench.frontier.rows import FrontierReport
from bench.frontier.run import run_frontier
from bench.study.command import Document, document_parser

DOCUMENT = Document(TITLE, FrontierReport, lambda report, document: render(report, draw(report, document)))
_PAGE, _WORK = Path("docs/benchmarks/frontier.md"), Path(".qpruner/bench-frontier")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark, or draw its document again; the exit code."""
    options = _parser().parse_args(arguments)
    return DOCUMENT.publish(options.output, None if options.redraw else lambda: run_frontier(options))


def _parser() -> argparse.ArgumentParser:
    parser = document_parser("bench.frontier", __doc__, _PAGE, _WORK)
    parser.add_argument("--llama-cpp", type=Path, help="directory of llama.cpp's programs")
    parser.add_argument("--quick", action="store_true", help="20 minutes: one model, less text, fewer rows")
    parser.add_argument("--models", nargs="+", help="(default: all)")
    parser.add_argument("--no-rivals", action="store_true", help="only llama-quantize and ours")
    parser.add_argument("--claims-only", action="store_true", help="only the rows that claims rest on")
    parser.add_argument("--only", nargs="+", default=[], metavar="WORD", help="only rows with one of these in the name")
    parser.add_argument(
        "--take-over",
        action="store_true",
        help="begin with the rows of the .json, of the same code and data",
    )
    parser.add_argument("--workers", type=int, default=2, help="checkpoints made at once (default %(default)s)")
    parser.add_argument("--gemma", type=Path, help="Gemma's GGUF file, if it is here already")
    parser.add_argument("--rivals", type=Path, default=_WORK / "rivals", help="environments of rivals, made if missing")
    parser.add_argument("--redraw", action="store_true", help="only draw page and pictures again from the .json")
    return parser


if __name__ == "__main__":
    sys.exit(main())

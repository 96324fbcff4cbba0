"""Our allocations beside those of other tools, at the same bytes, without pruning and without recovery.

    python -m bench.peers --data PATH

writes docs/benchmarks/peers.{md,json}. Every row is kept as soon as it exists: ended and started again with the same
limits, it goes on where it was. The other tools are the extra ``bench-peers``; one that is not installed or does not
run here has a row that says why.
"""

from __future__ import annotations

import argparse
import hashlib
import sys
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

from bench.own_files import require_own_document
from bench.peers.compared import OURS, PEERS, UNIFORM
from bench.peers.document import TITLE, PeersReport, render
from bench.peers.ours import Ours
from bench.peers.rows import PeerRow
from bench.peers.run import Amounts, run_peers
from bench.report import this_machine
from qpruner_core.errors import InvalidConfigError, QPrunerError
from qpruner_core.models import resolve_model
from qpruner_core.source_policy import SourcePolicy

DOCUMENT = Path("docs/benchmarks/peers.md")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the comparison, or draw its document again; the exit code."""
    options = _parser().parse_args(arguments)
    try:
        require_own_document(options.output, TITLE, PeersReport)
        if not options.render:
            _run(options)
        _render(options.output)
    except KeyboardInterrupt:
        print("\nEnded. The rows so far are kept: the same command goes on behind them.", file=sys.stderr)
        return 130
    except QPrunerError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    amounts = Amounts()
    parser = argparse.ArgumentParser(prog="python -m bench.peers", description="Ours beside other tools.")
    parser.add_argument("--data", type=Path, help="folder with text/ and eval/; without it: Python's own help")
    parser.add_argument("--model", default="demo:smollm2-135m-instruct")
    parser.add_argument("--tokens", type=int, default=amounts.tokens, help="of each text (default %(default)s)")
    parser.add_argument("--examples", type=int, default=amounts.examples, help="of each task (default %(default)s)")
    parser.add_argument("--sequences", type=int, default=amounts.sequences, help="that calibrate (default %(default)s)")
    parser.add_argument("--length", type=int, default=amounts.length, help="tokens of these (default %(default)s)")
    parser.add_argument("--trials", type=int, default=40, help="of our searches (default %(default)s)")
    parser.add_argument("--limit", type=float, default=amounts.limit, help="seconds of another tool (%(default)g)")
    names = [peer.package for peer in PEERS]
    parser.add_argument("--peers", nargs="*", choices=sorted(set(names)), default=sorted(set(names)))
    parser.add_argument("--no-ours", action="store_true", help="only the dense model and the other tools")
    parser.add_argument("--quick", action="store_true", help="4096 tokens, 50 examples, 10 trials, 300 seconds")
    parser.add_argument("--note", default="", help="what else must be known of how the rows came about")
    parser.add_argument("--take-over", action="store_true", help=(
        "begin with the rows of the document's .json, of the same code, amounts and data"
    ))  # fmt: skip
    parser.add_argument("--render", action="store_true", help="only draw the document again from its .json")
    parser.add_argument("--output", type=Path, default=DOCUMENT, help="the document (default %(default)s)")
    parser.add_argument("--work-dir", type=Path, default=Path(".qpruner/bench-peers"), help="where rows are kept")
    return parser


def _run(options: argparse.Namespace) -> None:
    if options.quick:
        options.tokens, options.examples, options.trials, options.limit = 4096, 50, 10, 300.0
    source = resolve_model(options.model, SourcePolicy())
    amounts = Amounts(options.tokens, options.examples, options.sequences, options.length, options.limit)
    data = None if options.data is None else str(options.data.resolve())
    digest = hashlib.sha256(repr((asdict(amounts), source.digest, data)).encode()).hexdigest()[:12]
    rows = run_peers(
        source.directory,
        options.data,
        amounts,
        options.work_dir / digest,
        peers=[peer for peer in PEERS if peer.package in options.peers],
        uniform=() if options.no_ours else UNIFORM,
        ours=() if options.no_ours else [_with_trials(one, options.trials) for one in OURS],
        known=_rows_of(options.output, amounts) if options.take_over else (),
    )
    report = PeersReport(
        model=options.model, tokens=amounts.tokens, examples=amounts.examples, sequences=amounts.sequences,
        length=amounts.length, machine=this_machine(), rows=rows, note=options.note,
    )  # fmt: skip
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.with_suffix(".json").write_text(report.model_dump_json(indent=1) + "\n", encoding="utf-8")


def _with_trials(ours: Ours, trials: int) -> Ours:
    return replace(ours, allocate={**ours.allocate, "trials": trials})


def _rows_of(document: Path, amounts: Amounts) -> list[PeerRow]:
    """The rows of the report beside ``document``, which must be of these ``amounts``."""
    report = _read(document)
    measured = replace(
        amounts, tokens=report.tokens, examples=report.examples, sequences=report.sequences, length=report.length
    )
    if measured != amounts:
        raise InvalidConfigError(
            f"{document.with_suffix('.json')} was measured with other amounts.",
            field="take-over", remedy=f"Name the same: {asdict(measured)}.",
        )  # fmt: skip
    return report.rows


def _render(document: Path) -> None:
    document.write_text(render(_read(document)), encoding="utf-8")
    print(f"Written: {document}")


def _read(document: Path) -> PeersReport:
    source = document.with_suffix(".json")
    if not source.is_file():
        raise InvalidConfigError(f"{source} does not exist.", field="render", remedy="Run the benchmark first.")
    return PeersReport.model_validate_json(source.read_text(encoding="utf-8"))


if __name__ == "__main__":
    sys.exit(main())

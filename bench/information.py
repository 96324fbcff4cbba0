"""Which estimator of mutual information is right, and which orders the layers best.

    python -m bench.information --data PATH

writes docs/benchmarks/information.{md,json}: bias and deviation of every estimator where the answer is known, and how
its scores of a pruned model's layers agree with the true effect of each layer's precision, its modules fitted as the
product does. What was made and measured is kept: ended and started again, it goes on where it was. Without --data it
takes the text that every Python carries.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from pydantic import TypeAdapter

from bench.allocation_loss import HIGH, LOW, AllocationLoss
from bench.estimator_error import EstimatorError, cases, estimator_errors
from bench.fitted_layers import FittedLayers, fitted_layers
from bench.information_report import TITLE, Limits, Report, page
from bench.layer_order import LayerEffects, LayerOrder, compare_orders, information_scores, measure_effects
from bench.own_files import require_own_document
from bench.report import this_machine
from bench.texts import Texts, calibration_windows, evaluated_windows, read_texts
from qpruner_core.config import CompressionConfig
from qpruner_core.errors import QPrunerError
from qpruner_core.models import load_tokenizer, resolve_model
from qpruner_core.models.families import family_of
from qpruner_core.score.config import ScoreConfig
from qpruner_core.score.information import ESTIMATORS
from qpruner_core.score.information.layer_outputs import layer_outputs
from qpruner_core.source_policy import SourcePolicy

DOCUMENT = Path("docs/benchmarks/information.md")
_LENGTH: int = CompressionConfig.model_fields["sequence_length"].default
_SIZES = (256, 1024, 4096)
_SETTINGS = {"clusters", "neighbours", "components", "predictions"}
"""What the estimators read of the score stage's settings."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark, or draw its document again; the exit code."""
    options = _parser().parse_args(arguments)
    figures = options.output.with_suffix(".json")
    try:
        require_own_document(options.output, TITLE, Report)
        if not options.render:
            report = _run(options)
            options.output.parent.mkdir(parents=True, exist_ok=True)
            figures.write_text(report.model_dump_json(indent=1) + "\n", encoding="utf-8")
        report = Report.model_validate_json(figures.read_text(encoding="utf-8"))
        options.output.write_text(page(report), encoding="utf-8")
        print(page(report))
    except KeyboardInterrupt:
        print("\nEnded. What was measured so far is kept.", file=sys.stderr)
        return 130
    except (QPrunerError, FileNotFoundError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench.information", description="Estimators of the score stage.")
    parser.add_argument("--data", type=Path, help="folder with text/; without it: Python's own help")
    parser.add_argument("--model", default="demo:smollm2-135m-instruct")
    parser.add_argument("--ratio", type=float, default=0.2, help="that is pruned first (default %(default)s)")
    parser.add_argument("--sequences", type=int, default=8, help="that are scored (default %(default)s)")
    parser.add_argument("--tokens", type=int, default=1024, help="of held-out text (default %(default)s)")
    parser.add_argument("--sizes", type=int, nargs="+", default=_SIZES, help="samples where the answer is known")
    parser.add_argument("--seeds", type=int, default=5, help="samples of each size (default %(default)s)")
    parser.add_argument("--render", action="store_true", help="only draw the document again from its .json")
    parser.add_argument("--output", type=Path, default=DOCUMENT, help="the document (default %(default)s)")
    parser.add_argument(
        "--work-dir", type=Path, default=Path(".qpruner/bench-information"), help="where the model and losses are kept"
    )
    return parser


def _run(options: argparse.Namespace) -> Report:
    texts = read_texts(options.data)
    limits = _limits(options, texts)
    errors = _errors(options)
    print("pruning and fitting the layers", file=sys.stderr, flush=True)
    documents = texts.calibration[limits.calibration_text]
    fitted = fitted_layers(options.model, limits.ratio, documents, (LOW, HIGH), options.work_dir)
    effects, orders = _layers(fitted, texts, limits, options.work_dir)
    return Report(
        model=options.model, limits=limits, machine=this_machine(), settings=ScoreConfig(), errors=errors,
        effects=effects, orders=orders, quantize=fitted.config.quantize,
    )  # fmt: skip


def _errors(options: argparse.Namespace) -> list[EstimatorError]:
    """How far the estimators are off; measured unless they were before."""
    parts = [options.sizes, options.seeds, ScoreConfig().model_dump(include=_SETTINGS), list(ESTIMATORS)]
    digest = hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:12]
    rows, file = TypeAdapter(list[EstimatorError]), options.work_dir / f"errors-{digest}.json"
    if not file.exists():
        found = estimator_errors(cases(), ScoreConfig(), options.sizes, options.seeds, _tell)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(rows.dump_json(found))
    return rows.validate_json(file.read_bytes())


def _limits(options: argparse.Namespace, texts: Texts) -> Limits:
    return Limits(
        ratio=options.ratio,
        tokens=options.tokens,
        seeds=options.seeds,
        calibration_text=next(iter(texts.calibration)),
        calibration_sequences=options.sequences,
        calibration_length=_LENGTH,
        evaluated_text=next(iter(texts.evaluated)),
    )


def _layers(fitted: FittedLayers, texts: Texts, limits: Limits, folder: Path) -> tuple[LayerEffects, list[LayerOrder]]:
    """The effects of every layer of the pruned model, and how the estimators order them."""
    tokenizer = load_tokenizer(resolve_model(fitted.config.model, SourcePolicy()).directory)
    per_side = limits.calibration_sequences
    calibration = calibration_windows(
        tokenizer, texts.calibration[limits.calibration_text], sequences=2 * per_side, length=limits.calibration_length
    )
    scores, repeated = (
        information_scores(layer_outputs(fitted.model, family_of(fitted.model), side), ScoreConfig(), seed=0)
        for side in calibration.split(per_side)
    )
    windows = evaluated_windows(tokenizer, texts.evaluated[limits.evaluated_text], limits.tokens, limits.evaluated_text)
    loss = AllocationLoss(fitted, windows, folder)
    effects = measure_effects(loss, lambda done, total: print(f"layer {done}/{total}", file=sys.stderr, flush=True))
    return effects, compare_orders(effects, loss, scores, repeated)


def _tell(row: EstimatorError) -> None:
    print(f"{row.case}, {row.samples}: {row.estimator} {row.bias:+.3f} ± {row.deviation:.3f}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())

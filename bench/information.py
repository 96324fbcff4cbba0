"""Which estimator of mutual information is right, and which orders the layers best.

    python -m bench.information --data PATH

writes docs/benchmarks/information.{md,json}: bias and deviation of every estimator where the answer is known, and how
its scores of a pruned model's layers agree with the true effect of each layer's precision. Measured losses are kept:
ended and started again, it goes on where it was. Without --data it takes the text that every Python carries.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from pydantic import TypeAdapter
from transformers import PreTrainedTokenizerBase

from bench.allocation_loss import AllocationLoss
from bench.estimator_error import EstimatorError, cases, estimator_errors
from bench.information_report import Limits, Report, page
from bench.layer_order import LayerEffects, LayerOrder, compare_orders, information_scores, measure_effects
from bench.report import this_machine
from bench.texts import Texts, calibration_windows, evaluated_windows, read_texts
from qpruner_core.config import CompressionConfig
from qpruner_core.errors import QPrunerError
from qpruner_core.models import load_model, load_tokenizer, resolve_model
from qpruner_core.models.checkpoint_writer import write_model
from qpruner_core.models.families import family_of
from qpruner_core.prune.config import PruneConfig
from qpruner_core.prune.pruning import prune_to_ratio
from qpruner_core.score.config import ScoreConfig
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
        if not options.render:
            report = _run(options)
            options.output.parent.mkdir(parents=True, exist_ok=True)
            figures.write_text(report.model_dump_json(indent=1) + "\n", encoding="utf-8")
        report = Report.model_validate_json(figures.read_text(encoding="utf-8"))
        options.output.write_text(page(report), encoding="utf-8")
        print(page(report))
    except KeyboardInterrupt:
        print("\nEnded. The losses measured so far are kept.", file=sys.stderr)
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
    parser.add_argument("--tokens", type=int, default=1024, help="of held-out text (default %(default)s)")
    parser.add_argument("--sizes", type=int, nargs="+", default=_SIZES, help="samples where the answer is known")
    parser.add_argument("--seeds", type=int, default=5, help="samples of each size (default %(default)s)")
    parser.add_argument("--render", action="store_true", help="only draw the document again from its .json")
    parser.add_argument("--output", type=Path, default=DOCUMENT, help="the document (default %(default)s)")
    parser.add_argument(
        "--work-dir", type=Path, default=Path(".qpruner/bench-information"), help="where losses are kept"
    )
    return parser


def _run(options: argparse.Namespace) -> Report:
    source = resolve_model(options.model, SourcePolicy())
    texts = read_texts(options.data)
    limits = _limits(options, texts)
    data = None if options.data is None else str(options.data.resolve())
    parts = [limits.model_dump(), list(options.sizes), ScoreConfig().model_dump(include=_SETTINGS), source.digest, data]
    work = options.work_dir / hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:12]
    errors = _errors(options, work)
    effects, orders = _layers(source.directory, texts, limits, work)
    return Report(
        model=options.model, limits=limits, machine=this_machine(), settings=ScoreConfig(), errors=errors,
        effects=effects, orders=orders,
    )  # fmt: skip


def _errors(options: argparse.Namespace, work: Path) -> list[EstimatorError]:
    """How far the estimators are off; measured unless they were before."""
    rows, file = TypeAdapter(list[EstimatorError]), work / "errors.json"
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
        calibration_sequences=ScoreConfig().calibration_sequences,
        calibration_length=_LENGTH,
        evaluated_text=next(iter(texts.evaluated)),
    )


def _layers(directory: Path, texts: Texts, limits: Limits, work: Path) -> tuple[LayerEffects, list[LayerOrder]]:
    """The effects of every layer of the pruned model, and how the estimators order them."""
    tokenizer = load_tokenizer(directory)
    model = load_model(_pruned(directory, tokenizer, texts, limits, work))
    family = family_of(model)
    per_side = limits.calibration_sequences
    calibration = _calibration(tokenizer, texts, limits, 2 * per_side)
    scores, repeated = (
        information_scores(layer_outputs(model, family, side), ScoreConfig(), seed=0)
        for side in calibration.split(per_side)
    )
    windows = evaluated_windows(tokenizer, texts.evaluated[limits.evaluated_text], limits.tokens, limits.evaluated_text)
    loss = AllocationLoss(model, family, windows, work / "losses.jsonl")
    effects = measure_effects(loss, lambda done, total: print(f"layer {done}/{total}", file=sys.stderr, flush=True))
    return effects, compare_orders(effects, loss, scores, repeated)


def _pruned(directory: Path, tokenizer: PreTrainedTokenizerBase, texts: Texts, limits: Limits, work: Path) -> Path:
    """The checkpoint pruned with the product's defaults; made unless it was before."""
    pruned = work / "pruned"
    if not pruned.exists():
        settings = PruneConfig()
        model = load_model(directory)
        family = family_of(model)
        calibration = _calibration(tokenizer, texts, limits, settings.calibration_sequences)
        smaller, _ = prune_to_ratio(model, family, settings, limits.ratio, calibration, consume=True)
        partial = pruned.with_suffix(".part")
        write_model(smaller, family, partial, tokenizer_from=directory)
        partial.replace(pruned)  # whole or not at all, however the run ends
    return pruned


def _calibration(tokenizer: PreTrainedTokenizerBase, texts: Texts, limits: Limits, sequences: int) -> torch.Tensor:
    text = texts.calibration[limits.calibration_text]
    return calibration_windows(tokenizer, text, sequences=sequences, length=limits.calibration_length)


def _tell(row: EstimatorError) -> None:
    print(f"{row.case}, {row.samples}: {row.estimator} {row.bias:+.3f} ± {row.deviation:.3f}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())

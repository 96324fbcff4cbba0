"""How much is left of a model after pruning, for every criterion and layout, and for LLM-Pruner's recipe.

    python -m bench.prune --data PATH

writes docs/benchmarks/prune.{md,json,png}. Every row is kept as soon as it exists: ended and started again with the
same limits, it goes on where it was. Without --data it takes the text that every Python carries.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from bench import llm_pruner
from bench.own_files import require_own_document
from bench.plot import plot_perplexity
from bench.pruner import Calibration, Pruned, Pruner
from bench.recipes import CRITERIA, LAYOUTS, RATIOS, Recipe, baselines, default_name, recipes
from bench.report import Limits, Report, this_machine
from bench.rows import Measures, Row, RowFile
from bench.table import BASELINE, TITLE, render
from bench.tasks import TASKS, TaskExample, read_task, score_task
from bench.texts import Texts, calibration_windows, evaluated_windows, read_texts, short_sequences
from bench.unit_removal import correlation_table, measure
from qpruner_core.config import CompressionConfig
from qpruner_core.errors import InvalidConfigError, QPrunerError
from qpruner_core.measure.perplexity import perplexity
from qpruner_core.models import load_model, load_tokenizer, resolve_model
from qpruner_core.models.families import Unit, family_of
from qpruner_core.prune.config import PruneConfig
from qpruner_core.source_policy import SourcePolicy

DOCUMENT = Path("docs/benchmarks/prune.md")
_SAMPLES = {Unit.CHANNEL: 60, Unit.KEY_VALUE_HEAD: 20}
_REMOVAL_SEQUENCES, _REMOVAL_LENGTH, _REMOVAL_LAYERS = 4, 128, 7


@dataclass(frozen=True)
class Evaluation:
    """What every model is measured on: ``texts``: token ids ``[windows, length]``; ``tasks``: examples."""

    texts: dict[str, torch.Tensor]
    tasks: dict[str, list[TaskExample]]

    def measure(self, model: PreTrainedModel) -> Measures:
        """The measures of ``model`` on all of it."""
        measures: Measures = {
            name: {"perplexity": perplexity(model, windows, lambda done, total: None)}
            for name, windows in self.texts.items()
        }
        return measures | {name: score_task(model, examples) for name, examples in self.tasks.items()}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark, or draw its document again; the exit code."""
    options = _parser().parse_args(arguments)
    try:
        require_own_document(options.output, TITLE, Report)
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
    parser = argparse.ArgumentParser(prog="python -m bench.prune", description="Benchmark of pruning, no recovery.")
    parser.add_argument("--data", type=Path, help="folder with text/ and eval/; without it: Python's own help")
    parser.add_argument("--model", default="demo:smollm2-135m-instruct")
    parser.add_argument("--tokens", type=int, default=16384, help="of each text (default %(default)s)")
    parser.add_argument("--examples", type=int, default=100, help="of each task, at most (default %(default)s)")
    parser.add_argument(
        "--sequences", type=int, default=PruneConfig().calibration_sequences, help="that calibrate ours"
    )
    parser.add_argument("--ratios", type=float, nargs="+", default=RATIOS)
    parser.add_argument("--criteria", nargs="+", choices=CRITERIA, default=CRITERIA)
    parser.add_argument("--layouts", nargs="+", choices=LAYOUTS, default=LAYOUTS)
    parser.add_argument("--cross", action="store_true", help="every criterion with every layout")
    parser.add_argument("--quick", action="store_true", help="2048 tokens, 10 examples, 20 %% and 50 %%: a trial")
    parser.add_argument("--no-unit-removal", action="store_true", help="leave out the rank correlations")
    parser.add_argument("--render", action="store_true", help="only draw the document again from its .json")
    parser.add_argument("--output", type=Path, default=DOCUMENT, help="the document (default %(default)s)")
    parser.add_argument("--work-dir", type=Path, default=Path(".qpruner/bench-prune"), help="where rows are kept")
    return parser


def _run(options: argparse.Namespace) -> None:
    if options.quick:
        options.tokens, options.examples, options.ratios = 2048, 10, (0.2, 0.5)
    source = resolve_model(options.model, SourcePolicy())
    tokenizer = load_tokenizer(source.directory)
    texts = read_texts(options.data)
    limits = _limits(options, texts)
    work = options.work_dir / _digest(limits, source.digest, options.data)
    evaluation = _evaluation(options, tokenizer, texts)
    calibration = _calibration(tokenizer, texts, limits)
    model = load_model(source.directory)
    rows = _measure_rows(options, model, calibration, evaluation, work)
    table = "" if options.no_unit_removal else _correlations(source.directory, calibration.ours, work)
    report = Report(
        model=options.model, default=default_name(), limits=limits, machine=this_machine(), rows=rows,
        correlations=table,
    )  # fmt: skip
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.with_suffix(".json").write_text(report.model_dump_json(indent=1) + "\n", encoding="utf-8")


def _limits(options: argparse.Namespace, texts: Texts) -> Limits:
    names = list(texts.calibration)
    return Limits(
        tokens=options.tokens,
        examples=options.examples,
        calibration_text=names[0],
        calibration_sequences=options.sequences,
        calibration_length=CompressionConfig.model_fields["sequence_length"].default,
        baseline_text=names[-1],
    )


def _digest(limits: Limits, model: str, data: Path | None) -> str:
    """A name for the directory of rows that may stand in one table."""
    parts = [limits.model_dump(), model, None if data is None else str(data.resolve())]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:12]


def _evaluation(options: argparse.Namespace, tokenizer: PreTrainedTokenizerBase, texts: Texts) -> Evaluation:
    tasks = {} if options.data is None else TASKS
    return Evaluation(
        texts={
            name: evaluated_windows(tokenizer, text, options.tokens, name) for name, text in texts.evaluated.items()
        },
        tasks={
            name: read_task(options.data / "eval" / f"{file}.jsonl", tokenizer, options.examples)
            for name, file in tasks.items()
        },
    )


def _calibration(tokenizer: PreTrainedTokenizerBase, texts: Texts, limits: Limits) -> Calibration:
    return Calibration(
        ours=calibration_windows(
            tokenizer,
            texts.calibration[limits.calibration_text],
            sequences=limits.calibration_sequences,
            length=limits.calibration_length,
        ),
        llm_pruner=short_sequences(
            tokenizer,
            texts.calibration[limits.baseline_text],
            sequences=llm_pruner.SEQUENCES,
            length=llm_pruner.LENGTH,
        ),
    )


def _measure_rows(
    options: argparse.Namespace, model: PreTrainedModel, calibration: Calibration, evaluation: Evaluation, work: Path
) -> list[Row]:
    """The rows asked for, in order, the dense model first; measured unless they were before."""
    file = RowFile(work / "rows.jsonl")
    pruner = Pruner(model, family_of(model), calibration, work / "importance")
    compared = [
        *baselines(model.config.num_hidden_layers),
        *recipes(options.criteria, options.layouts, cross=options.cross),
    ]
    wanted = [(recipe, ratio) for ratio in options.ratios for recipe in compared]
    dense = file.find("dense", None, 0.0)
    if dense is None:
        dense = _dense_row(model, evaluation)
        file.append(dense)
    rows = [dense]
    for number, (recipe, ratio) in enumerate(wanted, start=1):
        row = file.find(recipe.name, recipe.settings, ratio)
        if row is None:
            started = time.perf_counter()
            try:
                pruned = pruner.prune(recipe, ratio)
            except InvalidConfigError as error:
                print(f"{recipe.name} at {ratio:.0%}: {error}", file=sys.stderr)
                continue
            row = _row(recipe, ratio, pruned, evaluation)
            file.append(row)
            print(f"{number}/{len(wanted)} {_line(row)}, {time.perf_counter() - started:.0f} s", flush=True)
        rows.append(row)
    return rows


def _dense_row(model: PreTrainedModel, evaluation: Evaluation) -> Row:
    row = Row(
        recipe="dense", settings=None, ratio=0.0, removed=0.0, parameters=model.num_parameters(), score_seconds=0.0,
        cut_seconds=0.0, peak_bytes=0, measures=evaluation.measure(model),
    )  # fmt: skip
    print(_line(row), flush=True)
    return row


def _row(recipe: Recipe, ratio: float, pruned: Pruned, evaluation: Evaluation) -> Row:
    return Row(
        recipe=recipe.name,
        settings=recipe.settings,
        ratio=ratio,
        removed=pruned.removed,
        parameters=pruned.model.num_parameters(),
        score_seconds=pruned.score_seconds,
        cut_seconds=pruned.cut_seconds,
        peak_bytes=pruned.peak_bytes,
        measures=evaluation.measure(pruned.model),
    )


def _line(row: Row) -> str:
    text, measures = next(iter(row.measures.items()))
    return f"{row.recipe} at {row.removed:.1%}: perplexity {measures['perplexity']:.2f} on {text}"


def _correlations(directory: Path, calibration: torch.Tensor, work: Path) -> str:
    """The table of rank correlations, from disk if it was measured before."""
    file = work / "correlations.md"
    if not file.exists():
        model = load_model(directory).float()
        sequences = calibration[:_REMOVAL_SEQUENCES, :_REMOVAL_LENGTH]
        table = correlation_table(measure(model, sequences, _SAMPLES, layers=_REMOVAL_LAYERS))
        file.write_text(table, encoding="utf-8")
    return file.read_text(encoding="utf-8")


def _render(document: Path) -> None:
    try:
        report = Report.model_validate_json(document.with_suffix(".json").read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise InvalidConfigError(
            f"{document.with_suffix('.json')} does not exist.", field="render", remedy="Run the benchmark first."
        ) from error
    plot = document.with_suffix(".png")
    document.write_text(render(report, plot.name), encoding="utf-8")
    text = next(iter(report.rows[0].measures))
    plot_perplexity(report.rows, text, (BASELINE, report.default), plot)
    print(f"Written: {document}")


if __name__ == "__main__":
    sys.exit(main())

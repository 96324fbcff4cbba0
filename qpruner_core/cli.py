"""``qpruner compress``, ``export``, ``estimate``, ``evaluate``, ``front``, ``generate``: the pipeline without a server.

Exit codes: 0 success; 1 internal error; 2 invalid request; 3 hub unreachable; 4 disk full; 5 training diverged; 130
cancelled. With ``--json``, standard output is one JSON document, also for errors.
"""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from qpruner_core.bounds import LONGEST_SEQUENCE, MOST_CHOICES, MOST_HELD_OUT_TOKENS, SHORTEST_SEQUENCE
from qpruner_core.budget_options import Budget, CacheTypes, Context, Device, FitMemory, Sequences, budget_settings
from qpruner_core.compute.config import ComputeDtype
from qpruner_core.errors import QPrunerError
from qpruner_core.garbage import collector_paused
from qpruner_core.model_options import Checkpoint, RunsOnOption, Target
from qpruner_core.run_settings import (
    ConfigFile,
    Dataset,
    FinetuneSteps,
    OtherSettings,
    Preset,
    PruneRatio,
    Seed,
    Trials,
    run_settings,
)
from qpruner_core.sizes import format_bytes, parse_bytes
from qpruner_core.tables import (
    compute_line,
    estimate_table,
    front_table,
    groups_by_precision,
    how_to_run,
    measurement_table,
    pruning_line,
)
from qpruner_core.targets.config import TargetName
from qpruner_core.terminal import Progress, is_live

if TYPE_CHECKING:
    from qpruner_core.config import CompressionConfig
    from qpruner_core.report import CompressionReport

app = typer.Typer(no_args_is_help=True, help="Compress a language model to a memory budget.")
_errors = Console(stderr=True, highlight=False)
_out = Console(highlight=False)

Model = Annotated[
    str,
    typer.Argument(
        help='A local directory or .gguf file, a hub id ("org/name@revision" or "org/name:file.gguf"), or '
        '"demo:smollm2-135m-instruct".'
    ),
]
ModelOrNone = Annotated[
    str | None,
    typer.Argument(metavar="MODEL", help="As for `estimate`; not needed if the file of --config names it."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]
Products = Annotated[
    ComputeDtype, typer.Option("--compute-dtype", help="Type of matrix products; auto: the faster one on this machine.")
]


def _show_version(wanted: bool) -> None:
    if not wanted:
        return
    with _errors_as_exit_codes(as_json=False):
        from qpruner_core.diagnostics import diagnostics

        for name, value in diagnostics().items():
            _out.print(f"{name:<14}{value}", soft_wrap=True, markup=False)
    raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_show_version, is_eager=True,
            help="Show versions, processor and the type of matrix products, and exit.",
        ),
    ] = False,
) -> None:  # fmt: skip
    """Compress a language model to a memory budget."""


@app.command()
def compress(
    output: Annotated[Path, typer.Option(help="Directory for the checkpoints and the report.")],
    model: ModelOrNone = None,
    dataset: Dataset = None,
    config: ConfigFile = None,
    memory_budget: Budget = None,
    fit_memory: FitMemory = None,
    context: Context = None,
    sequences: Sequences = None,
    cache_type: CacheTypes = None,
    fit_device: Device = None,
    target: Target = None,
    runs_on: RunsOnOption = None,
    prune_ratio: PruneRatio = None,
    trials: Trials = None,
    finetune_steps: FinetuneSteps = None,
    seed: Seed = None,
    preset: Preset = None,
    settings: OtherSettings = None,
    as_json: AsJson = False,
) -> None:
    """Compress MODEL to a memory budget. Run again with the same output to resume after an interruption."""
    with _errors_as_exit_codes(as_json):
        with collector_paused(freeze=True):
            from qpruner_core.pipeline import compress as run

        given = {
            **budget_settings(memory_budget, fit_memory, context, sequences, cache_type, fit_device),
            "model": model, "dataset": dataset, "seed": seed, "target": target, "runs_on": runs_on, "preset": preset,
            "prune.ratio": prune_ratio, "allocate.trials": trials, "finetune.steps": finetune_steps,
        }  # fmt: skip
        run_config = _config(run_settings(config, given, settings))
        with _cancel_on_interrupt() as cancel, Progress(*_shown_on(as_json)) as progress:
            report = run(run_config, output.resolve(), on_event=progress, cancel=cancel)
        _show(report, output, as_json)


@app.command()
def export(
    directory: Annotated[
        Path, typer.Argument(help=("Output directory of a finished run, with its .work directory beside it."))
    ],
    target: Annotated[TargetName, typer.Option(help="Engine that will run the new checkpoint.")],
    output: Annotated[
        Path | None, typer.Option(help="Directory of the new checkpoint; default: DIRECTORY-TARGET.")
    ] = None,
    memory_budget: Annotated[str | None, typer.Option(help="Bytes of the weights; default: those of the run.")] = None,
    runs_on: RunsOnOption = None,
    as_json: AsJson = False,
) -> None:
    """Make another target's checkpoint from a finished run, without another pruning or recovery."""
    with _errors_as_exit_codes(as_json):
        with collector_paused(freeze=True):
            from qpruner_core.another_target import export_run

        output = output or directory.resolve().with_name(f"{directory.resolve().name}-{target}")
        budget = None if memory_budget is None else parse_bytes(memory_budget)
        with _cancel_on_interrupt() as cancel, Progress(*_shown_on(as_json)) as progress:
            report = export_run(
                directory, target=target, output=output, memory_budget=budget, runs_on=runs_on, on_event=progress,
                cancel=cancel,
            )  # fmt: skip
        _show(report, output, as_json)


@app.command()
def estimate(
    model: Model,
    memory_budget: Budget = None,
    fit_memory: FitMemory = None,
    context: Context = None,
    sequences: Sequences = None,
    cache_type: CacheTypes = None,
    fit_device: Device = None,
    target: Target = None,
    runs_on: RunsOnOption = None,
    prune_ratio: PruneRatio = None,
    preset: Preset = None,
    settings: OtherSettings = None,
    as_json: AsJson = False,
) -> None:
    """Predict whether MODEL can fit, and its bytes, without running anything."""
    with _errors_as_exit_codes(as_json):
        with collector_paused(freeze=True):
            from qpruner_core.planning import estimate as run

        given = {
            **budget_settings(memory_budget, fit_memory, context, sequences, cache_type, fit_device),
            "model": model, "target": target, "runs_on": runs_on, "preset": preset, "prune.ratio": prune_ratio,
        }  # fmt: skip
        result = run(run_settings(None, given, settings, needed=["model"]))
        if as_json:
            _out.print_json(result.model_dump_json())
        else:
            _out.print(estimate_table(result))
            for note in result.notes[1:]:  # the first one is about fields of the JSON document
                _say(note, style="dim")
    if not result.feasible:
        raise typer.Exit(2)


@app.command()
def evaluate(
    directory: Checkpoint,
    text: Annotated[Path, typer.Option(help="Text to measure perplexity on: .txt, or another dataset form with text.")],
    tasks: Annotated[list[Path] | None, typer.Option(help="Multiple-choice files (.jsonl, .json, .csv).")] = None,
    sequence_length: Annotated[
        int, typer.Option(help="Tokens per window.", min=SHORTEST_SEQUENCE, max=LONGEST_SEQUENCE)
    ] = 256,
    max_tokens: Annotated[
        int, typer.Option(help="Tokens of text to measure on.", min=SHORTEST_SEQUENCE, max=MOST_HELD_OUT_TOKENS)
    ] = 16384,
    max_choices: Annotated[int, typer.Option(help="Examples per task.", min=1, max=MOST_CHOICES)] = 200,
    compute_dtype: Products = "auto",
    as_json: AsJson = False,
) -> None:
    """Measure a checkpoint: bytes of its weights, perplexity, accuracy on choices, speed."""
    with _errors_as_exit_codes(as_json):
        with collector_paused(freeze=True):
            from qpruner_core.evaluate.evaluate_checkpoint import evaluate_checkpoint

        result = evaluate_checkpoint(
            directory, text, tasks or [], length=sequence_length, max_tokens=max_tokens, max_choices=max_choices,
            compute_dtype=compute_dtype,
            on_warning=lambda message: _errors.print(message, markup=False, soft_wrap=True),
        )  # fmt: skip
        if as_json:
            _out.print_json(json.dumps(result))
            return
        table = Table("measure", "value", title=Text(str(directory)))
        for name, value in result.items():
            table.add_row(name, f"{value:.3f}" if isinstance(value, float) else str(value))
        _out.print(table)


@app.command()
def front(
    work_dir: Annotated[Path, typer.Option(help="Work directory of a run: OUTPUT.work.")],
    budget: Annotated[
        str | None, typer.Option(help='Show the best allocation for this budget: "130MB", "6GiB", 130000000.')
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Show the best allocations of a run's search by bytes, and the best one for another budget, without loading a
    model."""
    with _errors_as_exit_codes(as_json):
        with collector_paused(freeze=True):
            from qpruner_core.search.stored_search import StoredSearch

        search = StoredSearch.read(work_dir)
        answer = search.answer(parse_bytes(budget, "budget")) if budget is not None else None
        if as_json:
            shown = {
                "groups": search.space.groups,
                "front": [trial.model_dump(mode="json") for trial in search.front()],
                "answer": answer and answer.model_dump(mode="json"),
            }
            _out.print_json(json.dumps(shown))
            return
        _out.print(front_table(search.front()))
        if answer is not None:
            how = "measured" if answer.measured else "predicted"
            _say(
                f"{format_bytes(answer.memory_budget)}: {format_bytes(answer.bytes)}, {how} loss {answer.loss:.4f} "
                f"nats per token before recovery. {groups_by_precision(answer.precisions)}"
            )


@app.command()
def generate(
    directory: Checkpoint,
    prompt: Annotated[str, typer.Option(help="Text to continue.")],
    max_new_tokens: Annotated[int, typer.Option(help="Tokens to generate.", min=1, max=LONGEST_SEQUENCE)] = 48,
    compute_dtype: Products = "auto",
    as_json: AsJson = False,
) -> None:
    """Load a checkpoint, print the bytes of its weights, and generate greedily."""
    with _errors_as_exit_codes(as_json):
        with collector_paused(freeze=True):
            from qpruner_core.compute.choice import computing
            from qpruner_core.evaluate.evaluate_checkpoint import load_checkpoint
            from qpruner_core.loading import held_bytes
            from qpruner_core.measure.generation import continue_text
            from qpruner_core.resources import best_device

        model, tokenizer = load_checkpoint(directory)
        size = held_bytes(directory, model)
        with computing(compute_dtype, best_device()):
            text = continue_text(model, tokenizer, prompt, max_new_tokens)
        if as_json:
            _out.print_json(json.dumps({"bytes": size, "prompt": prompt, "text": text}))
        else:
            _say(f"{format_bytes(size)} of weights", style="dim")
            _say(prompt + text)


def _show(report: CompressionReport, output: Path, as_json: bool) -> None:
    """Print the result of a run."""
    if as_json:
        _out.print_json(report.model_dump_json())
        return
    _out.print(measurement_table(report.measurements))
    if report.pruning is not None:
        _say(pruning_line(report.pruning))
    _say(compute_line(report))
    _say(f"Budget {format_bytes(report.memory_budget)}, predicted {format_bytes(report.predicted_bytes)}.")
    _say(f"Written to {output}: {', '.join(sorted(path.name for path in output.iterdir()))}")
    if report.exported:
        _say(how_to_run(report.exported[0]))


def _config(values: dict[str, Any]) -> CompressionConfig:
    from qpruner_core.config import parse_config

    return parse_config(values)


def _say(text: str, *, style: str = "") -> None:
    """Print ``text`` without markup: one line per sentence in a log, wrapped on a terminal."""
    _out.print(text, style=style, markup=False, soft_wrap=not is_live(_out))


def _shown_on(as_json: bool) -> list[Console]:
    """Consoles that show progress: a terminal if there is one, and standard output if it is not a terminal, so that ``>
    log`` logs it. Progress stays out of JSON documents."""
    consoles = [_errors] if as_json else [_out, _errors]
    terminals = [console for console in consoles if is_live(console)]
    logs = [console for console in consoles[:1] if not is_live(console)]
    return logs + terminals[-1:]


@contextmanager
def _cancel_on_interrupt() -> Iterator[Any]:
    from qpruner_core.events import CancelToken

    token = CancelToken()
    previous = signal.signal(signal.SIGINT, lambda *_: token.cancel())
    try:
        yield token
    finally:
        signal.signal(signal.SIGINT, previous)


@contextmanager
def _errors_as_exit_codes(as_json: bool) -> Iterator[None]:
    try:
        _quieten_libraries()
        yield
    except QPrunerError as error:
        if as_json:
            _out.print_json(json.dumps({"error": error.to_dict()}))
        else:
            _errors.print(f"[red]{error.code}[/red]", end=" ")
            _errors.print(str(error), markup=False, soft_wrap=True)
        raise typer.Exit(error.exit_code) from error


def _quieten_libraries() -> None:
    from qpruner_core.quiet import quieten_libraries

    quieten_libraries()

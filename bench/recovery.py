"""Ways to recover a quantized model for a target whose files have no adapters, at the same bytes.

    python -m bench.recovery --data FOLDER --markdown docs/benchmarks/recovery.md
    python -m bench.recovery --case gguf:60MB:0.2    # a target, a budget, the share of the layers that is pruned

Each way goes on from one and the same quantized model; an adapter alone has an allocation of its own, so that its bytes
fit into the budget too. Each is trained in a process of its own, which tells its peak of memory. Linux only.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from bench.off_grid import write_off_grid
from bench.study.command import page_parser, write_page
from bench.study.comparing import Figures, Meter, parameter_bytes
from bench.study.machine import made_by
from bench.study.memory import StageMeter
from bench.study.stages import run_until
from bench.study.tables import markdown_table
from bench.study.texts import evaluated_windows, read_texts
from qpruner_core.config import CompressionConfig, parse_config
from qpruner_core.errors import BudgetInfeasibleError
from qpruner_core.events import StageName
from qpruner_core.finetune.config import Recovery
from qpruner_core.loading import load_mixed_checkpoint
from qpruner_core.measure.agreement import MOST_BYTES
from qpruner_core.models import load_model, load_tokenizer, resolve_model
from qpruner_core.models.checkpoint import read_header, tensor_bytes
from qpruner_core.models.demo import DEMO_PREFIX
from qpruner_core.sizes import format_bytes, parse_bytes
from qpruner_core.source_policy import SourcePolicy
from qpruner_core.stage_store import STAGE_FILE

TITLE = "# Recovery that ships in the format"
CASES = ("gguf:70MB:0", "gguf:60MB:0.2", "compressed-tensors:115MB:0", "compressed-tensors:125MB:0")
WAYS: tuple[Recovery, ...] = ("scales", "merge", "merge+scales", "adapter")
_BEFORE: tuple[StageName, ...] = ("prune", "score", "allocate", "quantize")


class Trained(BaseModel):
    """What a recovery took: CPU-seconds of the stage and bytes above the process before it; and how it began and ended
    on what was kept back of the training text."""

    cpu_seconds: float = 0.0
    peak: int = 0
    validation: list[tuple[int, float]] = []


class Row(BaseModel):
    """``bytes``: of the weights; ``figures``: by text."""

    way: str
    bytes: int
    trained: Trained
    figures: dict[str, Figures]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark as the command line says; the exit status."""
    options = _parser().parse_args(arguments)
    return write_page(options, TITLE, lambda: _pages(options))


def _pages(options: argparse.Namespace) -> Iterator[str]:
    """The page anew behind each case."""
    with tempfile.TemporaryDirectory(dir=options.work_dir) as name:
        folder = Path(name)
        model = folder / "dense"
        write_off_grid(resolve_model(options.model, SourcePolicy()).directory, model, seed=options.seed)
        tokenizer = load_tokenizer(model)
        text, evaluated = _texts(options, folder)
        windows = {name: evaluated_windows(tokenizer, words, options.tokens, name) for name, words in evaluated.items()}
        sections: list[str] = []
        for number, case in enumerate(options.case or CASES):
            config = _config(options, case, model, text)
            rows = _rows(config, options.ways, folder / str(number), Meter(windows, MOST_BYTES))
            sections.append(section(config, rows))
            yield render(options, sections)


def _parser() -> argparse.ArgumentParser:
    parser = page_parser(__doc__)
    parser.add_argument("--model", default=f"{DEMO_PREFIX}smollm2-135m-instruct", help="a Llama (default %(default)s)")
    parser.add_argument("--text", type=Path, help="one text in place of them; its last tenth is measured on")
    parser.add_argument(
        "--case", action="append", help=f"TARGET:BUDGET:RATIO, may be repeated (default: {', '.join(CASES)})"
    )
    parser.add_argument("--steps", type=int, default=200, help="optimiser steps of each way (default %(default)s)")
    parser.add_argument("--tokens", type=int, default=8192, help="measured on, of each text (default %(default)s)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--ways", type=lambda text: text.split(","), default=list(WAYS), help="some of the ways")
    parser.add_argument("--set", action="append", default=[], help="any other setting, as path=value (JSON)")
    parser.add_argument("--work-dir", type=Path, help="where temporary files go")
    return parser


def _texts(options: argparse.Namespace, folder: Path) -> tuple[Path, dict[str, str]]:
    """The file to calibrate and train on, and the texts to measure on."""
    place = folder / "text.jsonl"
    if options.text is None:
        texts = read_texts(options.data)
        documents, evaluated = next(iter(texts.calibration.values())), texts.evaluated
    else:
        parts = options.text.read_text(encoding="utf-8").split("\n\n")
        last = len(parts) - len(parts) // 10
        documents, evaluated = parts[:last], {options.text.stem: "\n\n".join(parts[last:])}
    place.write_text("".join(json.dumps({"text": text}) + "\n" for text in documents), encoding="utf-8")
    return place, evaluated


def _config(options: argparse.Namespace, case: str, model: Path, text: Path) -> CompressionConfig:
    target, budget, ratio = case.split(":")
    values: dict[str, Any] = {
        "model": str(model), "dataset": str(text), "memory_budget": parse_bytes(budget), "target": target,
        "seed": options.seed, "prune": {"ratio": float(ratio)},
        "finetune": {"steps": options.steps, "recovery": "scales"},
    }  # fmt: skip
    for setting in options.set:
        path, _, value = setting.partition("=")
        *parents, name = path.split(".")
        place = values
        for parent in parents:
            place = place.setdefault(parent, {})
        with suppress(ValueError):
            value = json.loads(value)
        place[name] = value
    return parse_config(values)


def _rows(config: CompressionConfig, ways: Sequence[Recovery], folder: Path, meter: Meter) -> list[Row]:
    dense = load_model(Path(config.model))
    rows = [Row(way="dense", bytes=parameter_bytes(dense), trained=Trained(), figures=meter(dense))]
    folder.mkdir()
    quantized = folder / "none.work"
    _in_a_process(_until, config, folder / "none", "quantize")
    rows.append(_measured("none", Trained(), meter, quantized / "quantize" / "model"))
    for way in ways:
        name = way.replace("+", "-")
        own = config.model_copy(update={"finetune": config.finetune.model_copy(update={"recovery": way})})
        work = folder / f"{name}.work"
        if way != "adapter":
            for stage in _BEFORE:
                shutil.copytree(quantized / stage, work / stage)
        try:
            trained = _in_a_process(_until, own, folder / name, "finetune")
        except BudgetInfeasibleError as error:
            print(f"{way}: {error.message}", file=sys.stderr, flush=True)
            continue
        places = [work / "finetune" / "model"]
        if way == "adapter":
            places = [work / "quantize" / "model", work / "finetune" / "adapter"]
        rows.append(_measured(way, trained, meter, *places))
        print(rows[-1].model_dump_json(), file=sys.stderr, flush=True)
    return rows


def _measured(way: str, trained: Trained, meter: Meter, checkpoint: Path, adapter: Path | None = None) -> Row:
    figures = meter(load_mixed_checkpoint(checkpoint, adapter))
    stored = sum(_stored_bytes(place) for place in (checkpoint, adapter) if place is not None)
    return Row(way=way, bytes=stored, trained=trained, figures=figures)


def _stored_bytes(directory: Path) -> int:
    """Bytes of the tensors in the one safetensors file of ``directory``."""
    (file,) = directory.glob("*.safetensors")
    return sum(tensor_bytes(*each) for each in read_header(file).values())


def _in_a_process(function: Callable[..., Trained], *arguments: Any) -> Trained:
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(function, *arguments).result()


def _until(config: CompressionConfig, output: Path, last: StageName) -> Trained:
    """Run up to the end of the stage ``last``, whose time and memory are told."""
    meter = StageMeter(last)
    run_until(last, config, output, on_event=meter)
    record = json.loads((output.with_name(f"{output.name}.work") / last / STAGE_FILE).read_text())
    peak = meter.peaks[-1]
    curve = record["summary"].get("validation", [])
    return Trained(cpu_seconds=peak.cpu_seconds or 0.0, peak=peak.anonymous, validation=curve)


def section(config: CompressionConfig, rows: Sequence[Row]) -> str:
    """The part of the page that is about one case."""
    what = ("perplexity", "KL to dense", "equal first")
    head = ["recovery", "bytes", *(f"{one}, {text}" for text in rows[0].figures for one in what), "CPU-seconds", "peak"]
    parts = [
        f"## Target {config.target}, {format_bytes(config.memory_budget or 0)}, {config.prune.ratio:.0%} pruned",
        f"{config.finetune.steps} steps of {config.finetune.batch_size} × {config.sequence_length} tokens, of "
        "merge+scales half for each.",
        markdown_table(head, [_cells(row) for row in rows]),
    ]
    return "\n\n".join(parts)


def _cells(row: Row) -> list[str]:
    cells = [row.way, format_bytes(row.bytes)]
    for one in row.figures.values():
        cells += [f"{one.perplexity:.3f}", *one.agreement_cells()]
    took = row.trained
    return [*cells, *([f"{took.cpu_seconds:.0f}", format_bytes(took.peak)] if took.cpu_seconds else ["–", "–"])]


def render(options: argparse.Namespace, sections: Sequence[str]) -> str:
    """The page in markdown."""
    parts = [
        TITLE,
        made_by("python -m bench.recovery"),
        f"`{options.model}` with channel scales that cancel (its weights would lie on a 4-bit grid). Perplexity, KL "
        "(nats per token) and the share of equal first choices are on text that nothing was trained or calibrated on. "
        "Bytes are those of the tensors, an adapter's with them; an adapter has an allocation of its own, so that it "
        "fits into the budget too. CPU-seconds and peaks are of the stage; peaks are of the process above its start.",
    ]
    return "\n\n".join([*parts, *sections]) + "\n"


if __name__ == "__main__":
    sys.exit(main())

"""Each target on SmolLM2-135M off the grid, beside the dense model and ``llama-quantize`` at the same bytes.

    python -m bench.targets --llama-cpp /path/to/bin --vllm PYTHON --data FOLDER --markdown docs/benchmarks/targets.md

``--llama-cpp`` has llama-quantize, llama-imatrix and llama-bench; ``--vllm`` is the Python of an environment with vLLM
for the CPU, without which compressed-tensors is timed in transformers. Everything is measured in one run: bytes,
perplexity and KL divergence to the dense model on texts that no calibration saw, and speed in the engine on one thread.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from bench.off_grid import off_grid_model, write_dense_gguf
from bench.study.command import page_parser, work_folder, write_page
from bench.study.comparing import Figures, Meter, parameter_bytes
from bench.study.machine import made_by
from bench.study.tables import markdown_table
from bench.study.texts import Texts, evaluated_windows, read_texts
from qpruner_core.compute.choice import computing
from qpruner_core.config import parse_config
from qpruner_core.formats.registry import load_format
from qpruner_core.garbage import free_garbage
from qpruner_core.measure.speed import EngineFailedError, tokens_per_second
from qpruner_core.measure.vllm import vllm_speed
from qpruner_core.measure.vllm_python import PYTHON as VLLM_PYTHON
from qpruner_core.models import load_model, load_tokenizer
from qpruner_core.models.gguf.split import read_model
from qpruner_core.pipeline import compress
from qpruner_core.sizes import format_bytes
from qpruner_core.source_policy import SourcePolicy
from qpruner_core.targets.gguf import read_gguf

TITLE = "# The targets on SmolLM2-135M"
RIVAL = "Q4_K_M"
_GENERATED, _PROMPT = 64, 128
JOB: dict[str, Any] = {
    "sequence_length": 256,
    "prune": {"ratio": 0.0},
    "score": {"calibration_sequences": 4},
    "allocate": {"trials": 24, "calibration_sequences": 8},
    "evaluate": {"max_tokens": 1024, "generated_tokens": 8},
    "runs_on": "cpu",
}


@dataclass(frozen=True)
class Row:
    """A model of the table. Speeds are tokens per second of ``engine``, on one thread."""

    name: str
    bytes: int
    figures: Mapping[str, Figures]
    engine: str
    prefill: float
    decode: float
    seconds: float | None = None


class Llama:
    """The programs of llama.cpp in a directory."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def quantize(self, dense: Path, text: Path, folder: Path) -> Path:
        """``dense`` at :data:`RIVAL` with an importance matrix from ``text``."""
        matrix, target = folder / "imatrix.gguf", folder / f"{RIVAL}.gguf"
        self._run("llama-imatrix", "-m", dense, "-f", text, "-o", matrix, "-c", 256, "--chunks", 64, "-t", 1)
        self._run("llama-quantize", "--imatrix", matrix, dense, target, RIVAL, 1)
        return target

    def speed(self, file: Path) -> tuple[float, float]:
        """Tokens per second of prefill and of decoding, on one thread."""
        out = self._run("llama-bench", "-m", file, "-t", 1, "-p", _PROMPT, "-n", _GENERATED, "-r", 3, "-o", "json")
        rows = json.loads(out)
        prefill = next(row["avg_ts"] for row in rows if row["n_prompt"])
        return float(prefill), float(next(row["avg_ts"] for row in rows if row["n_gen"]))

    def _run(self, name: str, *arguments: object) -> str:
        command = [str(self._directory / name), *map(str, arguments)]
        done = subprocess.run(command, capture_output=True, text=True)  # noqa: S603 - a program the user named
        if done.returncode:
            raise SystemExit(f"{name} failed: {done.stderr[-2000:]}")
        return done.stdout


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark as the command line says; the exit status."""
    options = _parser().parse_args(arguments)
    os.environ.pop(VLLM_PYTHON, None)
    if options.vllm is not None:
        os.environ[VLLM_PYTHON] = str(options.vllm.absolute())
    torch.set_num_threads(1)
    return write_page(options, TITLE, lambda: _pages(options))


def _pages(options: argparse.Namespace) -> Iterator[str]:
    with work_folder(options.work_dir) as folder:
        rows = measure(folder, read_texts(options.data), Llama(options.llama_cpp), options.tokens, options.steps)
    yield render(rows, options)


def _parser() -> argparse.ArgumentParser:
    parser = page_parser(__doc__)
    parser.add_argument("--llama-cpp", type=Path, required=True, help="directory of llama.cpp's programs")
    parser.add_argument("--vllm", type=Path, metavar="PYTHON", help="Python of an environment with vLLM for the CPU")
    parser.add_argument("--tokens", type=int, default=8192, help="of each text (default %(default)s)")
    parser.add_argument("--steps", type=int, default=0, help="of recovery (default %(default)s)")
    parser.add_argument("--work-dir", type=Path, help="keep models and stages here (default: a temporary folder)")
    return parser


def measure(folder: Path, texts: Texts, llama: Llama, tokens: int, steps: int) -> list[Row]:
    """All rows, the dense model first."""
    dense = off_grid_model(folder / "dense")
    tokenizer = load_tokenizer(dense)
    meter = Meter({name: evaluated_windows(tokenizer, text, tokens, name) for name, text in texts.evaluated.items()})
    calibration = folder / "calibration.txt"
    calibration.write_text("\n\n".join(next(iter(texts.calibration.values()))), encoding="utf-8")
    model = load_model(dense)
    rows = [_in_torch("dense, bfloat16", model, parameter_bytes(model), meter)]
    rows += _in_vllm(rows[0], dense)
    whole = folder / "dense.gguf"
    write_dense_gguf(dense, whole)
    rows.append(_in_llama("dense, GGUF BF16", whole, meter, llama))
    rival = llama.quantize(whole, calibration, folder)
    rows.append(_in_llama(f"`llama-quantize` {RIVAL}, imatrix", rival, meter, llama))
    budget = rows[-1].bytes
    common = {**JOB, "model": str(dense), "dataset": str(calibration), "finetune": {"steps": steps}}
    for target, bytes_ in (("gguf", budget), ("bitsandbytes", budget), ("compressed-tensors", budget * 11 // 10)):
        config = common | {"target": target, "memory_budget": bytes_}
        rows.append(_ours(config, folder / target, meter, llama))
    return rows


def _ours(values: dict[str, Any], output: Path, meter: Meter, llama: Llama) -> Row:
    report = compress(parse_config(values), output, policy=SourcePolicy())
    seconds = sum(report.stage_seconds.values())
    free_garbage()
    kind = load_format(report.exported[0].name)
    name = f"ours, `target: {values['target']}`"
    if values["target"] == "gguf":
        return _in_llama(name, kind.place(output), meter, llama, seconds)
    model = kind.load(output, "cpu")
    row = _in_torch(name, model, kind.held_bytes(output, model), meter, seconds)
    in_engine = _in_vllm(row, kind.place(output)) if values["target"] == "compressed-tensors" else []
    return in_engine[0] if in_engine else row


@computing()
def _in_torch(name: str, model: nn.Module, size: int, meter: Meter, seconds: float | None = None) -> Row:
    found = meter(model)
    prompt = torch.arange(_PROMPT) + 1000
    started = time.perf_counter()
    with torch.no_grad():
        model(input_ids=prompt.unsqueeze(0), use_cache=True)
    prefill = _PROMPT / (time.perf_counter() - started)
    decode = tokens_per_second(model, prompt[:16], _GENERATED)
    return Row(name, size, found, "transformers", prefill, decode, seconds)


def _in_vllm(row: Row, checkpoint: Path) -> list[Row]:
    """The same ``row`` with the speeds of vLLM, where it is given and runs the checkpoint."""
    try:
        speed = vllm_speed(checkpoint, _GENERATED, gpu=False)
    except EngineFailedError as error:
        print(f"{row.name}: {error}", file=sys.stderr)
        return []
    if speed is None or speed.prefill_tokens_per_second is None:
        return []
    return [replace(row, engine="vLLM", prefill=speed.prefill_tokens_per_second, decode=speed.tokens_per_second)]


def _in_llama(name: str, file: Path, meter: Meter, llama: Llama, seconds: float | None = None) -> Row:
    found = meter(read_gguf(file))
    prefill, decode = llama.speed(file)
    size = sum(tensor.size for tensor in read_model(file).tensors.values())
    return Row(name, size, found, "llama.cpp", prefill, decode, seconds)


def render(rows: Sequence[Row], options: argparse.Namespace) -> str:
    """The page in markdown."""
    texts = list(rows[0].figures)
    head = ["model", "bytes", *(f"{what}, {name}" for name in texts for what in ("perplexity", "KL", "same top-1"))]
    head += ["engine", "prefill", "decode", "made in"]
    parts = [
        TITLE,
        f"{made_by('python -m bench.targets')} {options.tokens} tokens of each "
        f"text; recovery of {options.steps} steps. SmolLM2-135M-Instruct off the grid (see `bench/off_grid.py`): its "
        "source is a Q4_1 file, which flatters every 4-bit format.",
        markdown_table(head, [_cells(row, texts) for row in rows]),
        "Bytes are those of the tensors that the engine holds. KL is that of the dense model's predictions to the "
        "model's, in nats per token, on texts that no calibration saw; GGUF files are read back into torch for it. "
        f"Prefill ({_PROMPT} tokens) and decode ({_GENERATED} tokens) are tokens per second on one thread. "
        "compressed-tensors keeps the embeddings in 16 bits, so its budget is a tenth larger. Made in: all "
        "stages of the run, on one thread.",
    ]
    return "\n\n".join(parts) + "\n"


def _cells(row: Row, texts: Sequence[str]) -> list[str]:
    cells = [row.name, format_bytes(row.bytes)]
    for name in texts:
        cells += [f"{row.figures[name].perplexity:.2f}", *row.figures[name].agreement_cells()]
    made = "–" if row.seconds is None else f"{row.seconds / 60:.1f} min"
    return [*cells, row.engine, f"{row.prefill:.0f}", f"{row.decode:.1f}", made]


if __name__ == "__main__":
    sys.exit(main())

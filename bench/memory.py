"""Peak memory of the prune stage on the CPU, beside the straightforward way: ``python -m bench.memory``.

Writes a Llama with random weights to a temporary folder, prunes it in child processes (one a way, so that none
inherits another's memory) and prints, for each phase, how far memory rose above the bytes of the 16-bit weights.
Linux only.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import psutil
import torch
from pydantic import BaseModel

from bench.memory_report import TITLE, Report, WayPeaks, markdown, table
from bench.own_files import require_own_figures, require_own_page
from bench.random_checkpoint import llama_config, write_random_checkpoint
from bench.resident_memory import PhasePeak

WAYS = {
    "ours": "ours, from a 16-bit checkpoint",
    "ours-float32": "ours, from a float32 checkpoint",
    "plain": "straightforward, in bfloat16",
    "plain-float32": "straightforward, in float32",
}
"""Way -> what it is called in the table. In float32 the straightforward way is that of LLM-Pruner's README."""

_NEEDED = {"ours": 1.5, "ours-float32": 1.5, "plain": 4.0, "plain-float32": 7.0}
"""Memory that a way is given a machine for, in multiples of the 16-bit weights."""


class Task(BaseModel):
    """What a child process does: prune ``checkpoint`` in one ``way`` and write the result to ``output``."""

    way: str
    checkpoint: str
    output: str
    ratio: float
    sequences: int
    length: int


def main() -> None:
    """Run the benchmark as the command line says."""
    arguments = _parse_arguments()
    if arguments.child:
        from bench.memory_ways import run_way

        peaks = run_way(Task.model_validate_json(arguments.child))
        sys.stdout.write(json.dumps([peak.model_dump() for peak in peaks]) + "\n")
        return
    if arguments.json:
        require_own_figures(arguments.json, Report, "json")
    if arguments.markdown:
        require_own_page(arguments.markdown, TITLE, "markdown")
    with tempfile.TemporaryDirectory(prefix="bench-memory-", dir=arguments.scratch) as scratch:
        report = _measure(arguments, Path(scratch))
    print(table(report))
    if arguments.json:
        arguments.json.parent.mkdir(parents=True, exist_ok=True)
        arguments.json.write_text(report.model_dump_json(indent=1) + "\n", encoding="utf-8")
    if arguments.markdown:
        arguments.markdown.parent.mkdir(parents=True, exist_ok=True)
        arguments.markdown.write_text(markdown(report), encoding="utf-8")


def _measure(arguments: argparse.Namespace, scratch: Path) -> Report:
    config = llama_config(
        arguments.hidden, arguments.layers, arguments.intermediate, arguments.heads, arguments.vocabulary
    )
    print("writing the random model …", flush=True)
    weights = write_random_checkpoint(config, scratch / "BF16")
    ways = []
    for way in arguments.ways:
        free = psutil.virtual_memory().available
        if free < _NEEDED[way] * weights:
            print(f"{WAYS[way]}: left out, only {free / 1e9:.1f} GB of memory are free", flush=True)
            continue
        print(f"{WAYS[way]} …", flush=True)
        checkpoint = scratch / "BF16"
        if way == "ours-float32":
            checkpoint = scratch / "F32"
            write_random_checkpoint(config, checkpoint, dtype=torch.float32)
        task = Task(
            way=way, checkpoint=str(checkpoint), output=str(scratch / "pruned"),
            ratio=arguments.ratio, sequences=arguments.sequences, length=arguments.length,
        )  # fmt: skip
        ways.append(WayPeaks(way=WAYS[way], phases=_in_child(task)))
    return Report.of(
        parameters=weights // 2, weights=weights, shape=arguments, ways=ways, threads=torch.get_num_threads()
    )


def _in_child(task: Task) -> list[PhasePeak]:
    done = subprocess.run(  # noqa: S603 - this module itself
        [sys.executable, "-m", "bench.memory", "--child", task.model_dump_json()],
        stdout=subprocess.PIPE, text=True, check=True,
    )  # fmt: skip
    return [PhasePeak.model_validate(peak) for peak in json.loads(done.stdout.splitlines()[-1])]


def _parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hidden", type=int, default=2048)
    parser.add_argument("--layers", type=int, default=24)
    parser.add_argument("--intermediate", type=int, default=6912)
    parser.add_argument("--heads", type=int, default=16)
    parser.add_argument("--vocabulary", type=int, default=32000)
    parser.add_argument("--sequences", type=int, default=4, help="sequences of calibration, scored one at a time")
    parser.add_argument("--length", type=int, default=128, help="tokens of each")
    parser.add_argument("--ratio", type=float, default=0.2)
    parser.add_argument("--ways", nargs="+", choices=tuple(WAYS), default=list(WAYS))
    parser.add_argument("--scratch", type=Path, help="folder for the models, about five times the 16-bit weights")
    parser.add_argument("--json", type=Path, help="write the figures here too")
    parser.add_argument("--markdown", type=Path, help="write the page here too")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    main()

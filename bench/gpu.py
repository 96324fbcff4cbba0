"""Peak device memory and seconds of every stage on a GPU, at the shape of a 7B Llama: ``python -m bench.gpu``.

Random weights are made on the device, tensor by tensor, and written to a temporary folder. The prune stage is measured
phase by phase; ``--pipeline`` takes the same checkpoint through all seven stages, with few steps of each.
``--shape tiny`` runs anywhere, to see that the script works; on a CPU the peaks are left open.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path
from pydoc_data.topics import topics

import torch

from bench.device_memory import NO_GPU, DevicePeak, device_name, measured, peak_bytes, reset_peak
from bench.machine import today, versions
from bench.random_checkpoint import SHAPES, write_random_model
from qpruner_core.config import CompressionConfig, parse_config
from qpruner_core.events import Event, StageFinished, StageStarted
from qpruner_core.models import load_model
from qpruner_core.models.checkpoint_writer import write_model
from qpruner_core.models.families import family_of
from qpruner_core.pipeline import compress
from qpruner_core.prune.compensation import COMPENSATIONS
from qpruner_core.prune.config import PruneConfig
from qpruner_core.prune.criteria import CRITERIA
from qpruner_core.prune.layer_sizes import LayerSizes
from qpruner_core.prune.layouts import plan_shape
from qpruner_core.prune.surgery import prune_model
from qpruner_core.resources import best_device
from qpruner_core.source_policy import SourcePolicy


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark as the command line says; the exit status."""
    options = _parser().parse_args(arguments)
    if options.shape == "7b" and not torch.cuda.is_available():
        print(NO_GPU)
        return 2
    with tempfile.TemporaryDirectory(prefix="bench-gpu-", dir=options.scratch) as scratch:
        checkpoint = Path(scratch) / "model"
        weights = write_random_model(options.shape, checkpoint, best_device())
        peaks = prune_phases(checkpoint, Path(scratch) / "pruned", options)
        if options.pipeline:
            peaks += pipeline_stages(checkpoint, Path(scratch), weights)
    print(render(peaks, weights, options))
    return 0


def prune_phases(checkpoint: Path, output: Path, options: argparse.Namespace) -> list[DevicePeak]:
    """The prune stage in its phases, with its default settings: load, score, refit, cut, write."""
    settings = PruneConfig()
    peaks: list[DevicePeak] = []
    with measured("prune: load", peaks):
        model = load_model(checkpoint).to(best_device())
    family = family_of(model)
    ids = torch.randint(3, model.config.vocab_size, (options.sequences, options.length))
    with measured("prune: score", peaks):
        importance = CRITERIA[settings.criterion](model, family, ids, lambda done, total: None)
    shape = plan_shape(LayerSizes.of(model.config, family), settings, options.ratio)
    with measured("prune: refit", peaks):
        compensate = COMPENSATIONS[settings.compensation]
        weights = compensate(model, family, shape, importance, ids, lambda done, total: None, consume=True)
    with measured("prune: cut", peaks):
        model = prune_model(model, family, shape, importance, replacements=weights, consume=True)
    with measured("prune: write", peaks):
        write_model(model, family, output, tokenizer_from=checkpoint)
    return peaks


def pipeline_stages(checkpoint: Path, folder: Path, weights: int) -> list[DevicePeak]:
    """All stages of a run of the pipeline with few steps of each."""
    text = folder / "prose.txt"
    text.write_text("\n\n".join(topics[name] for name in sorted(topics)), encoding="utf-8")
    peaks: list[DevicePeak] = []

    def listen(event: Event) -> None:
        if isinstance(event, StageStarted):
            reset_peak()
        elif isinstance(event, StageFinished):
            peaks.append(DevicePeak(stage=event.stage, device_bytes=peak_bytes(), seconds=event.seconds))

    compress(_few_steps(checkpoint, text, weights), folder / "out", policy=SourcePolicy(), on_event=listen)
    return peaks


def _few_steps(checkpoint: Path, text: Path, weights: int) -> CompressionConfig:
    return parse_config(
        {
            "model": str(checkpoint), "dataset": str(text),
            "target": "bitsandbytes", "memory_budget": int(0.75 * weights),
            "sequence_length": 128,
            "prune": {"ratio": 0.2, "calibration_sequences": 4},
            "score": {"calibration_sequences": 2},
            "allocate": {"trials": 4, "random_seeds": 1, "calibration_sequences": 2},
            "finetune": {"steps": 4, "warmup_steps": 1},
            "evaluate": {"max_tokens": 1024, "generated_tokens": 8},
        }
    )  # fmt: skip


def render(peaks: Sequence[DevicePeak], weights: int, options: argparse.Namespace) -> str:
    """The figures as a markdown table, with what they were measured on."""
    lines = [
        f"{today()}, {device_name()}; {versions()}",
        f"shape {options.shape}: {weights / 1e9:.2f} GB of 16-bit weights; score: {options.sequences} sequences of "
        f"{options.length} tokens, one at a time",
        "",
        "| stage | peak device memory, GB | above the weights | seconds |",
        "|---|---:|---:|---:|",
    ]
    for peak in peaks:
        if peak.device_bytes is None:
            size = "— | —"
        else:
            size = f"{peak.device_bytes / 1e9:.2f} | {(peak.device_bytes - weights) / weights:+.1%}"
        lines.append(f"| {peak.stage} | {size} | {peak.seconds:.1f} |")
    return "\n".join(lines)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", choices=tuple(SHAPES), default="7b")
    parser.add_argument("--pipeline", action="store_true", help="all seven stages after the prune stage's phases")
    parser.add_argument("--ratio", type=float, default=0.2)
    parser.add_argument("--sequences", type=int, default=4, help="sequences of calibration, scored one at a time")
    parser.add_argument("--length", type=int, default=128, help="tokens of each")
    parser.add_argument("--scratch", type=Path, help="folder for the checkpoints, about four times the weights")
    return parser


if __name__ == "__main__":
    raise SystemExit(main())

"""Peak device memory and seconds of every stage on a GPU, at the shape of a 7B Llama: ``python -m bench.gpu``.

Random weights are made on the device, tensor by tensor, and written to a temporary folder. The prune stage is measured
phase by phase; ``--pipeline`` takes the same checkpoint through all seven stages, with few steps of each.
``--shape tiny`` runs anywhere, to see that the script works; on a CPU the peaks are left open.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from pydoc_data.topics import topics

import torch
from pydantic import BaseModel
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from bench.machine import today, versions
from bench.random_checkpoint import llama_config, write_random_checkpoint
from qpruner_core.config import CompressionConfig, parse_config
from qpruner_core.events import Event, StageFinished, StageStarted
from qpruner_core.models import load_model
from qpruner_core.models.checkpoint_writer import write_model
from qpruner_core.models.families import family_of
from qpruner_core.pipeline import compress
from qpruner_core.prune.blocks import Blocks
from qpruner_core.prune.compensation import COMPENSATIONS
from qpruner_core.prune.config import PruneConfig
from qpruner_core.prune.criteria import CRITERIA
from qpruner_core.prune.layouts import plan_shape
from qpruner_core.prune.surgery import prune_model
from qpruner_core.quiet import quieten_libraries
from qpruner_core.resources import best_device
from qpruner_core.source_policy import SourcePolicy

SHAPES = {
    "7b": {"hidden": 4096, "layers": 32, "intermediate": 11008, "heads": 32, "vocabulary": 32000},
    "tiny": {"hidden": 64, "layers": 9, "intermediate": 256, "heads": 4, "vocabulary": 300},
}


class StagePeak(BaseModel):
    """One stage: seconds, and the most bytes of the device that tensors took; ``None`` without a GPU."""

    stage: str
    device_bytes: int | None
    seconds: float


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark as the command line says; the exit status."""
    options = _parser().parse_args(arguments)
    if options.shape == "7b" and not torch.cuda.is_available():
        print(
            "No GPU is at hand: torch.cuda.is_available() is false. `--shape tiny` runs on the CPU, to try the script."
        )
        return 2
    quieten_libraries()
    with tempfile.TemporaryDirectory(prefix="bench-gpu-", dir=options.scratch) as scratch:
        checkpoint = Path(scratch) / "model"
        weights = write_random_checkpoint(llama_config(**SHAPES[options.shape]), checkpoint, device=best_device().type)
        _write_tokenizer(checkpoint)
        peaks = prune_phases(checkpoint, Path(scratch) / "pruned", options)
        if options.pipeline:
            peaks += pipeline_stages(checkpoint, Path(scratch), weights)
    print(render(peaks, weights, options))
    return 0


def prune_phases(checkpoint: Path, output: Path, options: argparse.Namespace) -> list[StagePeak]:
    """The prune stage in its phases, with its default settings: load, score, refit, cut, write."""
    settings = PruneConfig()
    peaks: list[StagePeak] = []
    with _measured("prune: load", peaks):
        model = load_model(checkpoint).to(best_device())
    family = family_of(model)
    ids = torch.randint(3, model.config.vocab_size, (options.sequences, options.length))
    with _measured("prune: score", peaks):
        importance = CRITERIA[settings.criterion](model, family, ids, lambda done, total: None)
    shape = plan_shape(Blocks.of(model.config, family), settings, options.ratio)
    with _measured("prune: refit", peaks):
        compensate = COMPENSATIONS[settings.compensation]
        weights = compensate(model, family, shape, importance, ids, lambda done, total: None, consume=True)
    with _measured("prune: cut", peaks):
        model = prune_model(model, family, shape, importance, replacements=weights, consume=True)
    with _measured("prune: write", peaks):
        write_model(model, family, output, tokenizer_from=checkpoint)
    return peaks


def pipeline_stages(checkpoint: Path, folder: Path, weights: int) -> list[StagePeak]:
    """All stages of a run of the pipeline with few steps of each."""
    text = folder / "prose.txt"
    text.write_text("\n\n".join(topics[name] for name in sorted(topics)), encoding="utf-8")
    peaks: list[StagePeak] = []

    def listen(event: Event) -> None:
        if isinstance(event, StageStarted):
            _reset_peak()
        elif isinstance(event, StageFinished):
            peaks.append(StagePeak(stage=event.stage, device_bytes=_peak(), seconds=event.seconds))

    compress(_few_steps(checkpoint, text, weights), folder / "out", policy=SourcePolicy(), on_event=listen)
    return peaks


def _few_steps(checkpoint: Path, text: Path, weights: int) -> CompressionConfig:
    return parse_config(
        {
            "model": str(checkpoint), "dataset": str(text), "memory_budget": int(0.75 * weights),
            "sequence_length": 128,
            "prune": {"ratio": 0.2, "calibration_sequences": 4},
            "score": {"calibration_sequences": 2},
            "allocate": {"trials": 4, "random_seeds": 1, "calibration_sequences": 2},
            "finetune": {"steps": 4, "warmup_steps": 1},
            "evaluate": {"max_tokens": 1024, "generated_tokens": 8},
        }
    )  # fmt: skip


def render(peaks: Sequence[StagePeak], weights: int, options: argparse.Namespace) -> str:
    """The figures as a markdown table, with what they were measured on."""
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU; device memory is not measured"
    lines = [
        f"{today()}, {device}; {versions()}",
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


@contextmanager
def _measured(stage: str, peaks: list[StagePeak]) -> Iterator[None]:
    _reset_peak()
    started = time.perf_counter()
    yield
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    peaks.append(StagePeak(stage=stage, device_bytes=_peak(), seconds=time.perf_counter() - started))


def _reset_peak() -> None:
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()


def _peak() -> int | None:
    return torch.cuda.max_memory_allocated() if torch.cuda.is_available() else None


def _write_tokenizer(directory: Path) -> None:
    """A tokenizer of single bytes; the weights are random, so that the text does not matter."""
    alphabet = ["<s>", "</s>", *sorted(pre_tokenizers.ByteLevel.alphabet())]
    backend = Tokenizer(models.BPE(vocab={token: index for index, token in enumerate(alphabet)}, merges=[]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, bos_token="<s>", eos_token="</s>")  # noqa: S106 - no passwords
    tokenizer.save_pretrained(directory)


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

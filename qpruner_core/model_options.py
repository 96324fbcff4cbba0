"""Command line options for a checkpoint and its target."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from qpruner_core.targets.config import RunsOn, TargetName

Checkpoint = Annotated[
    Path,
    typer.Argument(metavar="CHECKPOINT", help="A checkpoint of a run, any 16-bit model directory, or a .gguf file."),
]
Target = Annotated[
    TargetName | None,
    typer.Option(
        help=(
            "Engine that will run the result. gguf: llama.cpp and Ollama; compressed-tensors: vLLM, SGLang and "
            "transformers (the default); bitsandbytes: transformers with PEFT and this package (the default of "
            "the paper's presets)."
        )
    ),
]
RunsOnOption = Annotated[
    RunsOn | None,
    typer.Option(
        "--runs-on",
        help=(
            "Hardware that the engine computes on: a GPU (the default), an NVIDIA GPU with vLLM's Humming "
            "kernels, or a CPU. For compressed-tensors it determines the precisions."
        ),
    ),
]

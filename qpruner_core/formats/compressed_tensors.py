"""A checkpoint in the format compressed-tensors: vLLM, SGLang and transformers."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from qpruner_core.formats.base import CheckpointFacts, ExportFormat
from qpruner_core.mixed.mixed_model import read_mixed_config
from qpruner_core.mixed.recovered import recovered_model
from qpruner_core.models.checkpoint import read_checkpoint, tensor_bytes
from qpruner_core.models.shards import StoredTensors
from qpruner_core.report import Snippet
from qpruner_core.stage import StageContext
from qpruner_core.targets.compressed_tensors import read_compressed_tensors, write_compressed_tensors


class CompressedTensorsCheckpoint(ExportFormat):
    """The recovered model as packed integers with scales, in the layout of the library compressed-tensors."""

    name = "compressed_tensors"

    def write(self, context: StageContext, output: Path, max_shard_size: int) -> None:
        directory = recovered_model(context).model
        config, precision, family = read_mixed_config(directory)
        with StoredTensors(directory) as stored:
            write_compressed_tensors(
                self.place(output),
                config=config,
                family=family,
                tensors={name: stored.get(name) for name in sorted(stored.names())},
                precision=precision.precisions,
                tokenizer_from=directory,
                max_shard_size=max_shard_size,
            )

    def load(self, output: Path, device: str | torch.device) -> nn.Module:
        model: nn.Module = read_compressed_tensors(self.place(output), device=device)
        return model

    def held_bytes(self, output: Path, model: nn.Module) -> int:
        return sum(tensor_bytes(*shape) for shape in read_checkpoint(self.place(output)).tensors.values())

    def snippets(self, facts: CheckpointFacts) -> tuple[Snippet, ...]:
        place = self.declaration.place
        flags = " --trust-remote-code --model-impl transformers" if facts.own_code else ""
        trust = ", trust_remote_code=True" if facts.own_code else ""
        load = (
            "from transformers import AutoModelForCausalLM, AutoTokenizer\n\n"
            f'model = AutoModelForCausalLM.from_pretrained("{place}"{trust})\n'
            f'tokenizer = AutoTokenizer.from_pretrained("{place}")'
        )
        return (
            Snippet(tool="vLLM", language="shell", text=f"vllm serve {place}{flags}"),
            Snippet(tool="transformers", language="python", text=load),
        )

    def description(self, facts: CheckpointFacts) -> str:
        return f"`{self.declaration.place}` keeps every part at its own precision, and needs no package of ours."


FORMAT = CompressedTensorsCheckpoint()

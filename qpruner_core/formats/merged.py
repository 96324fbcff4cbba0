"""One 16-bit model of the pruned shape with merged adapters, for any tool that loads transformers models."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from qpruner_core.adapters import attach_adapter
from qpruner_core.formats.base import CheckpointFacts, ExportFormat
from qpruner_core.mixed.mixed_model import load_mixed_model, read_mixed_config
from qpruner_core.mixed.recovered import recovered_model
from qpruner_core.models import load_model
from qpruner_core.models.checkpoint_writer import write_model
from qpruner_core.models.experts import stack_experts
from qpruner_core.report import Snippet
from qpruner_core.sizes import format_bytes
from qpruner_core.stage import StageContext

_WHY_TRUST = """

Its layers differ in width, which stock {architecture} code cannot build. The small modeling file beside the weights
does, with transformers 5.15 or later."""


class Merged(ExportFormat):
    """The de-quantized model with its adapters added to the weights."""

    name = "merged"

    def write(self, context: StageContext, output: Path, max_shard_size: int) -> None:
        directory, adapter = recovered_model(context)
        _, _, family = read_mixed_config(directory)
        merged = load_mixed_model(directory, dequantize=True)
        if adapter is not None:
            merged = attach_adapter(merged, adapter).merge_and_unload()
        write_model(
            stack_experts(merged), family, self.place(output), tokenizer_from=directory, max_shard_size=max_shard_size
        )

    def load(self, output: Path, device: str | torch.device) -> nn.Module:
        model: nn.Module = load_model(self.place(output)).to(device)
        return model

    def snippets(self, facts: CheckpointFacts) -> tuple[Snippet, ...]:
        trust = ", trust_remote_code=True" if facts.own_code else ""
        text = (
            "from transformers import AutoModelForCausalLM, AutoTokenizer\n\n"
            f'model = AutoModelForCausalLM.from_pretrained("merged"{trust})\n'
            'tokenizer = AutoTokenizer.from_pretrained("merged")'
        )
        return (Snippet(tool="transformers", language="python", text=text),)

    def description(self, facts: CheckpointFacts) -> str:
        text = (
            f"`merged` is one 16-bit model of the pruned shape, {format_bytes(facts.dense_bytes)} in memory. "
            "It loads without this package."
        )
        return text + (_WHY_TRUST.format(architecture=facts.architecture) if facts.own_code else "")


FORMAT = Merged()

"""The recovered adapter as its own GGUF file beside the base, for llama.cpp."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from qpruner_core.adapters import read_factors
from qpruner_core.formats.base import CheckpointFacts, ExportFormat
from qpruner_core.formats.gguf import GgufFile
from qpruner_core.mixed.mixed_model import read_mixed_config
from qpruner_core.mixed.recovered import recovered_model
from qpruner_core.models.gguf.split import read_model
from qpruner_core.report import Snippet
from qpruner_core.stage import StageContext
from qpruner_core.targets.gguf import about_model, write_gguf_adapter


class GgufAdapter(ExportFormat):
    """LoRA in bfloat16, with the base's names and order of rows."""

    name = "gguf_adapter"

    def write(self, context: StageContext, output: Path, max_shard_size: int) -> None:
        directory, adapter = recovered_model(context)
        assert adapter is not None  # without such a recovery, the settings reject this format
        config, _, _ = read_mixed_config(directory)
        alpha, factors = read_factors(adapter)
        about = about_model(
            f"{Path(context.config.model).name} adapter",
            source=context.source.origin["model"] or "",
            pruned="",
            recipe=context.store.key("finetune"),
        )
        write_gguf_adapter(self.place(output), config=config, factors=factors, alpha=alpha, metadata=about)

    def load(self, output: Path, device: str | torch.device) -> nn.Module:
        return GgufFile().load(output, device)

    def held_bytes(self, output: Path, model: nn.Module) -> int:
        return sum(tensor.size for tensor in read_model(self.place(output)).tensors.values())

    def snippets(self, facts: CheckpointFacts) -> tuple[Snippet, ...]:
        return GgufFile().snippets(facts)[:1]

    def description(self, facts: CheckpointFacts) -> str:
        return f"`{self.declaration.place}` is the recovered adapter: llama.cpp adds it to the model at run time."


FORMAT = GgufAdapter()

"""Every part at its own precision, with the recovered adapters beside it, for this package."""

from __future__ import annotations

from pathlib import Path

import torch
from peft import PeftModel
from torch import nn

from qpruner_core.adapters import require_acting_adapter
from qpruner_core.formats.base import CheckpointFacts, ExportFormat
from qpruner_core.loading import ADAPTER, load_mixed_checkpoint
from qpruner_core.mixed.recovered import recovered_model
from qpruner_core.models.checkpoint import WEIGHT_FILE
from qpruner_core.models.shards import copy_weights, link_tree
from qpruner_core.report import Snippet
from qpruner_core.stage import StageContext


class Mixed(ExportFormat):
    """The checkpoint of the quantize stage, with the adapter of the finetune stage in its own folder."""

    name = "mixed"

    def write(self, context: StageContext, output: Path, max_shard_size: int) -> None:
        directory, adapter = recovered_model(context)
        copy_mixed(directory, self.place(output), max_shard_size)
        if adapter is not None:
            link_tree(adapter, self.place(output) / ADAPTER)

    def load(self, output: Path, device: str | torch.device) -> nn.Module:
        adapter = self.place(output) / ADAPTER
        kept = adapter if adapter.is_dir() else None
        model: nn.Module = load_mixed_checkpoint(self.place(output), kept, device=device)
        if isinstance(model, PeftModel):
            require_acting_adapter(model)
        return model

    def snippets(self, facts: CheckpointFacts) -> tuple[Snippet, ...]:
        return (load_compressed_snippet(self.name),)

    def description(self, facts: CheckpointFacts) -> str:
        return "`mixed` keeps every part at its own precision; it needs the `qpruner` package."


def load_compressed_snippet(directory: str) -> Snippet:
    """The snippet that loads the checkpoint in ``directory`` with this package."""
    text = f'from qpruner_core import load_compressed\n\nmodel, tokenizer = load_compressed("{directory}")'
    return Snippet(tool="qpruner", language="python", text=text)


def copy_mixed(source: Path, target: Path, max_shard_size: int) -> None:
    """Write a mixed checkpoint in weight files of at most ``max_shard_size`` bytes; a single file is linked.

    The files have names of our own: transformers would read the codes as weights, with only a warning.
    """
    link_tree(source, target, but=(WEIGHT_FILE,))
    copy_weights(source, target, max_shard_size, own_names=True)


FORMAT = Mixed()

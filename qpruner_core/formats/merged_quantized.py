"""Adapters merged into the weights, which are then quantized again: smaller, faster, and less accurate.

The adapters' values are finer than the steps between quantized values, so part of them is lost. The loss is measured.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import torch
from torch import nn

from qpruner_core.adapters import attach_adapter
from qpruner_core.fitting.rounding_again import rounded_again
from qpruner_core.formats.base import CheckpointFacts, ExportFormat
from qpruner_core.formats.mixed import copy_mixed, load_compressed_snippet
from qpruner_core.mixed.mixed_model import load_mixed_model, read_mixed_config, write_mixed_model
from qpruner_core.mixed.recovered import recovered_model
from qpruner_core.models.checkpoint_writer import copy_tokenizer
from qpruner_core.models.shards import link_tree
from qpruner_core.report import Snippet
from qpruner_core.resources import best_device
from qpruner_core.stage import StageContext

_DESCRIPTION = """\
`merged_quantized` has the precisions of `mixed` and no adapters: they were merged into the weights, which were then
quantized again. The cost is the difference between its row of the table and the previous one."""


class MergedQuantized(ExportFormat):
    """A mixed checkpoint without adapters."""

    name = "merged_quantized"

    def write(self, context: StageContext, output: Path, max_shard_size: int) -> None:
        whole = output / f"{self.name}.whole"  # in one file
        write_merged_quantized(context, whole)
        copy_mixed(whole, self.place(output), max_shard_size)
        shutil.rmtree(whole)

    def load(self, output: Path, device: str | torch.device) -> nn.Module:
        model: nn.Module = load_mixed_model(self.place(output), device=device)
        return model

    def snippets(self, facts: CheckpointFacts) -> tuple[Snippet, ...]:
        return (load_compressed_snippet(self.name),)

    def description(self, facts: CheckpointFacts) -> str:
        return _DESCRIPTION


def write_merged_quantized(context: StageContext, directory: Path) -> None:
    """Write the mixed checkpoint of the quantize stage with the final adapter merged in, see :func:`rounded_again`. A
    recovered model without adapters is copied."""
    quantized, adapter = recovered_model(context)
    if adapter is None:
        link_tree(quantized, directory)
        return
    config, precision, family = read_mixed_config(quantized)
    merged = attach_adapter(load_mixed_model(quantized, dequantize=True), adapter).merge_and_unload().to(best_device())
    tensors = rounded_again(context, merged, quantized)
    write_mixed_model(directory, config, precision.model_copy(update={"adapters": False}), tensors, family)
    copy_tokenizer(quantized, directory)


FORMAT = MergedQuantized()

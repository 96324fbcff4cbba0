"""A small Llama with an adapter to train."""

from __future__ import annotations

from pathlib import Path

import torch
from peft import PeftModel

from qpruner_core.adapters import adapter_name, attach_adapter, write_adapter
from qpruner_core.data import Example
from qpruner_core.data.tokenization import IGNORED
from qpruner_core.models.families import find_family
from qpruner_core.quantize.config import QuantizeConfig
from tests.core.small_models import small_model

CPU = torch.device("cpu")


def example(length: int, masked: int = 0, first: int = 1) -> Example:
    """The ids ``first``, ``first + 1``, …; the first ``masked`` of them are not learned."""
    ids = torch.arange(first, first + length)
    labels = ids.clone()
    labels[:masked] = IGNORED
    return Example(ids, labels)


def write_small_adapter(directory: Path) -> Path:
    """An adapter for the small Llama that changes nothing yet."""
    family = find_family("llama")
    generator = torch.Generator().manual_seed(0)
    model = small_model("llama", dtype=torch.bfloat16)
    tensors = {}
    for layer in range(len(family.decoder_layers(model))):
        for path in family.linears:
            name = f"{family.layers}.{layer}.{path}"
            rows, columns = model.get_submodule(name).weight.shape
            tensors[adapter_name(name, "A")] = torch.randn(4, columns, generator=generator) * 0.1
            tensors[adapter_name(name, "B")] = torch.zeros(rows, 4)
    targets = family.adapted
    write_adapter(directory, tensors, QuantizeConfig(lora_rank=4), targets)
    return directory


def adapted_model(adapter: Path, dropout: float = 0.0) -> PeftModel:
    """The small Llama in bfloat16 with the adapter on it, ready to train."""
    base = small_model("llama", dtype=torch.bfloat16)
    return attach_adapter(base, adapter, trainable=True, dropout=dropout, dtype=torch.float32)

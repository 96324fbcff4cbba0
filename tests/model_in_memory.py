"""A compressed model that never left memory, and the checkpoint written of it."""

from __future__ import annotations

from pathlib import Path

import torch
from peft import LoraConfig, PeftModel, get_peft_model

from qpruner_core.adapters import adapter_tensors, write_adapter
from qpruner_core.data import Example
from qpruner_core.finetune.config import FinetuneConfig
from qpruner_core.mixed.groups import linear_names
from qpruner_core.mixed.mixed_model import MixedPrecision, other_tensors, write_mixed_model
from qpruner_core.models import load_model
from qpruner_core.models.checkpoint_writer import copy_tokenizer
from qpruner_core.models.families import find_family
from qpruner_core.precisions import Tensors, precisions
from qpruner_core.quantize.config import QuantizeConfig
from qpruner_core.training.batches import make_batch
from qpruner_core.training.training import train

IDS = torch.arange(3, 35).unsqueeze(0)
PATTERN = ("nf4", "int8", "bf16", "nf4", "int8", "nf4")
LOGITS_SCRIPT = (
    "import sys, torch; from qpruner_core import load_compressed\n"
    "model, _ = load_compressed(sys.argv[1])\n"
    "with torch.no_grad(): torch.save(model(torch.arange(3, 35).unsqueeze(0)).logits, sys.argv[2])\n"
)
"""Loads the checkpoint ``argv[1]`` and saves its logits of :data:`IDS` to ``argv[2]``."""


def compress_in_memory(source: Path, directory: Path) -> PeftModel:
    """Quantize, adapt and train the Llama of ``source`` in memory, then write it to ``directory``."""
    family = find_family("llama")
    model = load_model(source)
    kinds = precisions(QuantizeConfig())
    tensors: Tensors = {}
    precision_of: dict[str, str] = {}
    pattern = [PATTERN[layer % len(PATTERN)] for layer in range(model.config.num_hidden_layers)]
    for layer, precision in enumerate(pattern):
        for name in linear_names(model, family, layer):
            precision_of[name] = precision
            encoded = kinds[precision].encode(model.get_submodule(name).weight.data)
            tensors |= {f"{name}.{key}": value.clone() for key, value in encoded.items()}
            model.set_submodule(name, kinds[precision].build(encoded, None))
    tensors |= other_tensors(
        model, {name for name, _ in model.named_parameters() if ".proj" in name or "_proj." in name}
    )
    model.is_loaded_in_4bit = model.is_loaded_in_8bit = True
    targets = family.adapted
    torch.manual_seed(0)
    adapted = get_peft_model(model, LoraConfig(r=4, lora_alpha=8, target_modules=targets, task_type="CAUSAL_LM"))
    batch = make_batch([[Example(IDS[0], IDS[0])]], IDS.device)
    settings = FinetuneConfig(steps=3, learning_rate=0.05, warmup_steps=0)
    train(adapted.train(), iter([batch] * 3), settings, lambda step, loss: None)
    for name, parameter in adapted.named_parameters():
        if ".lora_" in name:
            parameter.data = parameter.data.to(torch.bfloat16)
    write_mixed_model(directory, model.config, MixedPrecision.of(precision_of, QuantizeConfig()), tensors, family)
    quantize = QuantizeConfig(lora_rank=4, lora_alpha=8)
    write_adapter(directory / "adapter", adapter_tensors(adapted, torch.bfloat16), quantize, targets)
    copy_tokenizer(source, directory)
    return adapted.eval()

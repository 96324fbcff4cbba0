"""Recovery by an adapter that is merged into the weights, which are then rounded again."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from transformers import PreTrainedModel

from qpruner_core.finetune.phase import Phase, train_phase
from qpruner_core.fitting.fit import module_seed, untrained_factors
from qpruner_core.fitting.rounding_again import rounded_again
from qpruner_core.garbage import free_garbage
from qpruner_core.mixed.adapters import adapter_name, attach_adapter, write_adapter
from qpruner_core.mixed.groups import linear_names
from qpruner_core.mixed.mixed_model import load_mixed_model, read_mixed_config, write_mixed_model
from qpruner_core.models import load_model
from qpruner_core.models.families import linear_weight
from qpruner_core.precisions import Tensors
from qpruner_core.resources import best_device
from qpruner_core.stage import StageContext


def recover_by_merging(context: StageContext, phase: Phase, source: Path, directory: Path) -> dict[str, Any]:
    """Write the mixed checkpoint of ``source`` to ``directory`` with what was learned merged in, at its precisions.

    Where that is worse than before on what was kept back, ``source`` is linked in its place.
    """
    device = best_device()
    if os.environ.get("TRAIN_ON") == "pruned":
        base = load_model(context.finished("prune") / "model").to(device)
    else:
        base = load_mixed_model(source, device=device, dequantize=True)
    model = _with_new_adapter(context, base)
    summary = train_phase(context, model, phase)
    merged = model.merge_and_unload()
    free_garbage()
    config, precision, family = read_mixed_config(source)
    precision = precision.model_copy(update={"adapters": False})
    write_mixed_model(directory, config, precision, rounded_again(context, merged, source), family)
    return summary


def _with_new_adapter(context: StageContext, model: PreTrainedModel) -> PeftModel:
    """``model`` with an adapter that changes nothing yet, ready to train."""
    family, settings = context.plan.family, context.config.quantize
    layers = range(len(family.decoder_layers(model)))
    factors: Tensors = {}
    for name in [name for layer in layers for name in linear_names(model, family, layer)]:
        weight, seed = linear_weight(model.get_submodule(name)), module_seed(context.config.seed, name)
        a, b = untrained_factors(weight, settings.lora_rank, seed)
        factors |= {adapter_name(name, "A"): a, adapter_name(name, "B"): b}
    with tempfile.TemporaryDirectory() as directory:
        targets = [path.rpartition(".")[2] for path in family.linears]
        write_adapter(Path(directory), factors, settings, targets)
        dropout = context.config.finetune.dropout
        return attach_adapter(model, Path(directory), trainable=True, dropout=dropout, dtype=torch.float32)

"""Recovery with an adapter that is merged into the weights, which are then rounded again."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from transformers import PreTrainedModel

from qpruner_core.adapters import adapter_name, attach_adapter, write_adapter
from qpruner_core.finetune.phase import Phase, train_phase, validation_batches
from qpruner_core.fitting.fitted_linear import module_seed, untrained_factors
from qpruner_core.fitting.rounding_again import rounded_again
from qpruner_core.garbage import free_garbage
from qpruner_core.mixed.groups import adapted_names
from qpruner_core.mixed.mixed_model import load_mixed_model, read_mixed_config, write_mixed_model
from qpruner_core.models.families import linear_weight
from qpruner_core.models.shards import link_tree
from qpruner_core.precisions import Tensors
from qpruner_core.resources import best_device
from qpruner_core.stage import StageContext
from qpruner_core.training.teacher import load_teacher
from qpruner_core.training.validation import validation_loss


def recover_by_merging(context: StageContext, phase: Phase, source: Path, directory: Path) -> dict[str, Any]:
    """Write the mixed checkpoint of ``source`` to ``directory`` with a trained adapter merged in, at the same
    precisions.

    If the loss on held-back text is worse than before, ``source`` is linked in its place.

    The adapter is trained on de-quantized 16-bit copies and added to these: adding it to the weights before
    quantization would lose what it learned about their errors. Peak memory: the pruned model in 16 bits, and the dense
    one for distillation.
    """
    base = load_mixed_model(source, device=best_device(), dequantize=True)
    model = _with_new_adapter(context, base)
    summary = train_phase(context, model, phase)
    merged = model.merge_and_unload()
    free_garbage()
    config, precision, family = read_mixed_config(source)
    precision = precision.model_copy(update={"adapters": False})
    write_mixed_model(directory, config, precision, rounded_again(context, merged, source), family)
    return summary | _best_of(context, source, directory, summary)


def _best_of(context: StageContext, source: Path, directory: Path, summary: dict[str, Any]) -> dict[str, Any]:
    """Put ``source`` in the place of ``directory`` and warn if the result is worse on held-back text."""
    if not summary["validation"]:
        return {}
    device = best_device()
    rounded = load_mixed_model(directory, device=device, dequantize=True)
    settings = context.config.finetune
    distils = summary["loss"] == "distillation"
    teacher = load_teacher(context.source.directory, settings, device) if distils else None
    loss = validation_loss(rounded, validation_batches(context, device), teacher)
    _, before = summary["validation"][0]
    if loss > before:
        context.warn(
            f"Rounding undid the recovery: the loss on held-back text is {loss:.4f}, and {before:.4f} without "
            "it. The model stays as it was quantized."
        )
        shutil.rmtree(directory)
        link_tree(source, directory)
    return {"rounded_loss": loss}


def _with_new_adapter(context: StageContext, model: PreTrainedModel) -> PeftModel:
    """``model`` with a neutral adapter, ready for training."""
    family, settings = context.plan.family, context.config.quantize
    layers = range(len(family.decoder_layers(model)))
    factors: Tensors = {}
    for name in [name for layer in layers for name in adapted_names(model, family, layer)]:
        weight, seed = linear_weight(model.get_submodule(name)), module_seed(context.config.seed, name)
        a, b = untrained_factors(weight, settings.lora_rank, seed)
        factors |= {adapter_name(name, "A"): a, adapter_name(name, "B"): b}
    with tempfile.TemporaryDirectory() as directory:
        write_adapter(Path(directory), factors, settings, family.adapted)
        dropout = context.config.finetune.dropout
        return attach_adapter(model, Path(directory), trainable=True, dropout=dropout, dtype=torch.float32)

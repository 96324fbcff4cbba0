"""A mixed checkpoint with everything trainable that the format stores exactly."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn
from transformers import PreTrainedModel

from qpruner_core.mixed.groups import linear_names
from qpruner_core.mixed.mixed_model import load_mixed_model, read_mixed_config
from qpruner_core.models.shards import StoredTensors, names_by_module
from qpruner_core.precisions import Tensors, precisions
from qpruner_core.precisions.scaled import ScaledPrecision
from qpruner_core.training.scaled_linear import ScaledLinear


def load_scaled_model(directory: Path, *, device: str | torch.device = "cpu") -> PreTrainedModel:
    """The mixed checkpoint of ``directory`` in train mode; only its norms, its biases and the scales of the linear
    modules of its layers require gradients.

    The weight of a precision without scales is a fixed 16-bit copy, and so are embeddings and head: their scales would
    have to be applied for every few positions whose logits are computed together.
    """
    _, precision, family = read_mixed_config(directory)
    model = load_mixed_model(directory, device=device, dequantize=True).requires_grad_(False)
    kinds = precisions(precision)
    layers = range(len(family.decoder_layers(model)))
    with StoredTensors(directory, device=device) as stored:
        of_module = names_by_module(stored.names(), precision.precisions)
        for name in [name for layer in layers for name in linear_names(model, family, layer)]:
            kind = kinds[precision.precisions[name]]
            if kind.lossless or not isinstance(kind, ScaledPrecision):
                continue
            own = {key.removeprefix(f"{name}."): key for key in of_module[name]}
            tensors = {short: stored.get(key) for short, key in own.items() if short != "bias"}
            bias = model.get_submodule(name).bias
            model.set_submodule(name, ScaledLinear(kind, tensors, bias if isinstance(bias, nn.Parameter) else None))
    for parameter in trainable(model):
        parameter.requires_grad_()
    return model.train()


def trainable(model: nn.Module) -> list[nn.Parameter]:
    """Shares of scales, and all one-dimensional parameters: norms and biases."""
    shares = {id(share) for module in model.modules() if isinstance(module, ScaledLinear) for share in module.shares}
    return [each for each in model.parameters() if id(each) in shares or each.dim() == 1]


def stored_tensors(model: PreTrainedModel, directory: Path) -> Tensors:
    """All tensors of the mixed checkpoint of ``directory``, on the CPU, with the trained values of ``model``, which was
    loaded from there."""
    found: Tensors = {}
    for name, module in model.named_modules():
        if isinstance(module, ScaledLinear):
            found |= {f"{name}.{key}": tensor.cpu() for key, tensor in module.stored().items()}
    with StoredTensors(directory) as stored:
        names = stored.names()
        learned = {name: each.detach().cpu() for name, each in model.named_parameters() if each.requires_grad}
        found |= {name: each.to(torch.bfloat16) for name, each in learned.items() if name in names}
        return {name: stored.get(name) for name in names - found.keys()} | found

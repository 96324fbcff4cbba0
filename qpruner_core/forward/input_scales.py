"""Scale of the inputs of every linear module, measured in forward passes."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import nn
from transformers import PreTrainedModel

from qpruner_core.forward.passes import OnBatch, forward_passes, hooked
from qpruner_core.mixed.groups import linear_names
from qpruner_core.models.families import Family

InputScales = Mapping[str, torch.Tensor]
"""Full module name -> root mean square of each of its inputs over tokens, float32 ``[in]``."""


def input_scales(
    model: PreTrainedModel, family: Family, calibration: torch.Tensor, on_batch: OnBatch
) -> dict[str, torch.Tensor]:
    """Input scales of every linear module of the layers on ``calibration [sequences, length]``, int64.

    Raises:
        NotFiniteError: an activation is NaN or infinite.
    """
    layers = range(len(family.decoder_layers(model)))
    names = [name for layer in layers for name in linear_names(model, family, layer)]
    sums: dict[str, torch.Tensor] = {}
    with hooked([model.get_submodule(name).register_forward_pre_hook(_adding(sums, name)) for name in names]):
        forward_passes(model, calibration, on_batch)
    return {name: (sums[name] / calibration.numel()).sqrt().float() for name in names}


def _adding(sums: dict[str, torch.Tensor], name: str) -> Callable[[nn.Module, tuple[torch.Tensor, ...]], None]:
    def add(_module: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        squares = inputs[0].flatten(0, -2).double().square().sum(dim=0)
        sums[name] = sums[name] + squares if name in sums else squares

    return add

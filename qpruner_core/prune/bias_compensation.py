"""Biases that replace the mean contribution of removed units (FLAP, arXiv 2312.11983, section 3.4)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from transformers import PreTrainedModel

from qpruner_core.forward.passes import OnBatch
from qpruner_core.models.families import Family, LayerWidths, linear_weight, positions
from qpruner_core.models.reshape import Shape
from qpruner_core.prune.activations import FeatureStatistics, input_statistics
from qpruner_core.prune.importance import LayerImportance
from qpruner_core.prune.surgery import kept_entries, kept_units


def compensating_biases(
    model: PreTrainedModel,
    family: Family,
    shape: Shape,
    importance: Sequence[LayerImportance],
    calibration: torch.Tensor,
    on_batch: OnBatch,
    *,
    consume: bool = False,
) -> dict[str, torch.Tensor]:
    """Biases of the modules at the end of attention and MLP in the model that ``prune_model`` makes of the same
    arguments.

    Each is the old bias, or 0, plus ``W[:, removed] · E[x[removed]]``, x being the module's input on ``calibration
    [sequences, length]``. Under the names of the new model, in the dtype of ``model``, ``[hidden]`` each; for every
    remaining layer, even if nothing is removed from it. The contribution of experts depends on the routing, so no bias
    can replace a removed expert: a sparse layer only gets a bias of its attention.

    Raises:
        NotFiniteError: an activation is NaN or infinite.
    """
    head_dim = family.head_dim(model.config)
    statistics = input_statistics(model, family, calibration, on_batch)
    layers = zip(family.decoder_layers(model), family.widths(model.config), shape, importance, statistics, strict=True)
    biases: dict[str, torch.Tensor] = {}
    kept = (each for each in layers if each[2] is not None)
    for position, (layer, old, new, scores, inputs) in enumerate(kept):
        for path, taken in inputs.items():
            removed = _removed(family, path, old, cast(LayerWidths, new), scores, head_dim)
            name = f"{family.layers}.{position}.{path}.bias"
            biases[name] = _bias(layer.get_submodule(path), taken, removed).to(model.dtype)
    return biases


def _removed(
    family: Family, path: str, old: LayerWidths, new: LayerWidths, importance: LayerImportance, head_dim: int
) -> torch.Tensor:
    """Removed inputs of the module at ``path``, ascending."""
    places = positions(family.linears[path][1], old, head_dim)
    goes = torch.ones(sum(units.numel() for units in places.values()), dtype=torch.bool)
    goes[kept_entries(places, kept_units(old, new, importance))] = False
    return goes.nonzero().flatten()


def _bias(linear: torch.nn.Module, inputs: FeatureStatistics, removed: torch.Tensor) -> torch.Tensor:
    weight = linear_weight(linear)
    removed = removed.to(weight.device)
    lost = weight[:, removed].double() @ inputs.mean.to(weight.device)[removed]
    old = cast(torch.Tensor | None, linear.bias)
    return lost if old is None else lost + old.detach().double()

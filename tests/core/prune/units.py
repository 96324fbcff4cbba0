"""Random importance, and units set to zero: what removal by structure is compared with."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from transformers import PreTrainedModel

from qpruner_core.models.families import Family, positions
from qpruner_core.models.reshape import Shape
from qpruner_core.prune.importance import LayerImportance
from qpruner_core.prune.surgery import kept_entries, kept_units


def random_importance(model: PreTrainedModel, family: Family, seed: int = 1) -> list[LayerImportance]:
    """Importance of every unit of ``model``, uniform in [0, 1)."""
    generator = torch.Generator().manual_seed(seed)
    layers = zip(family.decoder_layers(model), family.widths(model.config), strict=True)
    return [
        {
            unit: torch.rand(width.count(unit), generator=generator, dtype=torch.float64)
            for unit in family.unit_parameters(layer, width, family.head_dim(model.config))
        }
        for layer, width in layers
    ]


def zero_removed_units(
    model: PreTrainedModel, family: Family, shape: Shape, importance: Sequence[LayerImportance]
) -> None:
    """Set every weight and bias of the units that ``shape`` removes to zero, in place; ``None`` is not for here."""
    head_dim = family.head_dim(model.config)
    layers = zip(family.decoder_layers(model), family.widths(model.config), shape, importance, strict=True)
    for layer, old, widths, scores in layers:
        assert widths is not None
        kept = kept_units(old, widths, scores)
        for cut in family.cuts(layer):
            if cut.axis == "expert":
                continue
            removed = torch.ones(cut.tensor.shape[cut.dim], dtype=torch.bool)
            removed[kept_entries(positions(cut.axis, old, head_dim), kept)] = False
            cut.tensor.data.index_fill_(cut.dim, removed.nonzero().flatten(), 0)

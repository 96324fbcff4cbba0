"""How many parameters a model's layers have, and how many go with each unit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from transformers import PretrainedConfig

from qpruner_core.models.families import Family, LayerWidths, Unit
from qpruner_core.models.reshape import empty_model


@dataclass(frozen=True)
class Blocks:
    """The decoder layers of a model in numbers: for each layer its widths, all its parameters, and those of one unit
    of each kind."""

    widths: list[LayerWidths]
    layer_parameters: list[int]
    unit_parameters: list[dict[Unit, int]]

    @classmethod
    def of(cls, config: PretrainedConfig, family: Family) -> Blocks:
        """The layers of a model with ``config``, dense or pruned; takes no memory for weights."""
        layers = family.decoder_layers(empty_model(config))
        widths = family.widths(config)
        head_dim = family.head_dim(config)
        return cls(
            widths=widths,
            layer_parameters=[sum(tensor.numel() for tensor in layer.parameters()) for layer in layers],
            unit_parameters=[
                family.unit_parameters(layer, width, head_dim) for layer, width in zip(layers, widths, strict=True)
            ],
        )

    @property
    def total(self) -> int:
        """Parameters of all layers."""
        return sum(self.layer_parameters)

    def parameters_of(self, layer: int, widths: LayerWidths | None) -> int:
        """Parameters of ``layer`` once it has ``widths``; ``None``: once it is gone."""
        if widths is None:
            return 0
        removed = (
            (self.widths[layer].count(unit) - widths.count(unit)) * size
            for unit, size in self.unit_parameters[layer].items()
        )
        return self.layer_parameters[layer] - sum(removed)

    def removed_fraction(self, shape: Sequence[LayerWidths | None]) -> float:
        """The fraction of all layers' parameters that ``shape`` removes."""
        return 1 - sum(self.parameters_of(layer, widths) for layer, widths in enumerate(shape)) / self.total

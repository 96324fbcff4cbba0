"""Number of parameters of a model's layers, and of each unit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from transformers import PretrainedConfig

from qpruner_core.models.families import Family, LayerWidths, Unit
from qpruner_core.models.reshape import shapes_only


@dataclass(frozen=True)
class LayerSizes:
    """The decoder layers of a model in numbers: the widths of each layer, its parameters, and the parameters of one
    unit of each kind.

    ``indices``: position of each layer in the model at the start of pruning, which had ``first_layers`` layers of
    ``first_total`` parameters; so ratios and protected layers keep their meaning after layers are removed. ``config``
    and ``family`` are those of that model.
    """

    config: PretrainedConfig
    family: Family
    widths: list[LayerWidths]
    layer_parameters: list[int]
    unit_parameters: list[dict[Unit, int]]
    indices: list[int]
    first_layers: int
    first_total: int

    @classmethod
    def of(cls, config: PretrainedConfig, family: Family) -> LayerSizes:
        """The layers of a model with ``config``, dense or pruned; takes no memory for weights."""
        layers = family.decoder_layers(shapes_only(config))
        widths = family.widths(config)
        head_dim = family.head_dim(config)
        parameters = [sum(tensor.numel() for tensor in layer.parameters()) for layer in layers]
        return cls(
            config=config,
            family=family,
            widths=widths,
            layer_parameters=parameters,
            unit_parameters=[
                family.unit_parameters(layer, width, head_dim) for layer, width in zip(layers, widths, strict=True)
            ],
            indices=list(range(len(layers))),
            first_layers=len(layers),
            first_total=sum(parameters),
        )

    @property
    def total(self) -> int:
        """Parameters of all layers."""
        return sum(self.layer_parameters)

    @property
    def fewest_experts(self) -> int:
        """Least number of experts of a layer: the number of experts per token."""
        return int(getattr(self.config, "num_experts_per_tok", None) or 1)

    def parameters_of(self, layer: int, widths: LayerWidths | None) -> int:
        """Parameters of ``layer`` with ``widths``; ``None``: the layer is removed."""
        if widths is None:
            return 0
        removed = (
            (self.widths[layer].count(unit) - widths.count(unit)) * size
            for unit, size in self.unit_parameters[layer].items()
        )
        return self.layer_parameters[layer] - sum(removed)

    def removed_fraction(self, shape: Sequence[LayerWidths | None] | None = None) -> float:
        """Removed fraction of the first model's layer parameters, after ``shape`` or now."""
        left = self.total if shape is None else sum(map(self.parameters_of, range(len(shape)), shape))
        return 1 - left / self.first_total

    def parameters_to_remove(self, ratio: float) -> float:
        """Parameters still to remove, so that ``ratio`` of the first model's are removed; may be negative."""
        return self.total - (1 - ratio) * self.first_total

    def unprotected(self, first: int, last: int) -> list[int]:
        """The layers that are not among the ``first`` and ``last`` ones of the first model."""
        return [layer for layer, index in enumerate(self.indices) if first <= index < self.first_layers - last]

    def after(self, shape: Sequence[LayerWidths | None]) -> LayerSizes:
        """The layers with ``shape``."""
        kept = [(layer, widths) for layer, widths in enumerate(shape) if widths is not None]
        return replace(
            self,
            widths=[widths for _, widths in kept],
            layer_parameters=[self.parameters_of(layer, widths) for layer, widths in kept],
            unit_parameters=[self.unit_parameters[layer] for layer, _ in kept],
            indices=[self.indices[layer] for layer, _ in kept],
        )

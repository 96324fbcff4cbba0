"""Inputs of the modules at the end of attention and MLP, measured in forward passes alone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import nn
from transformers import PreTrainedModel

from qpruner_core.errors import NotFiniteError
from qpruner_core.forward.passes import OnBatch, forward_passes, hooked
from qpruner_core.models.families import Family, Unit, linear_weight
from qpruner_core.prune.expert_outputs import ExpertOutputs, experts_path
from qpruner_core.prune.importance import LayerImportance, finite, sum_units

ColumnScore = Callable[[torch.Tensor, "FeatureStatistics"], torch.Tensor]
"""(weight ``[outputs, inputs]``, statistics of its inputs) -> one number per input, ``[inputs]``."""


@dataclass
class FeatureStatistics:
    """Mean and spread of every input feature of a module over all tokens, float64 ``[features]``.

    Sequences are merged by their means and squared deviations (Chan, Golub and LeVeque 1979), because the difference
    of two large sums would lose the small variance of a feature with a large mean.
    """

    count: int = 0
    mean: torch.Tensor = field(default_factory=lambda: torch.zeros((), dtype=torch.float64))
    squared_deviations: torch.Tensor = field(default_factory=lambda: torch.zeros((), dtype=torch.float64))

    def add(self, tokens: torch.Tensor) -> None:
        """Add ``tokens [tokens, features]``."""
        tokens = tokens.double()
        new, mean = len(tokens), tokens.mean(dim=0)
        shift = mean - self.mean.to(mean.device)
        total = self.count + new
        deviations = (tokens - mean).square().sum(dim=0) + shift.square() * (self.count * new / total)
        self.squared_deviations = self.squared_deviations.to(mean.device) + deviations
        self.mean = self.mean.to(mean.device) + shift * (new / total)
        self.count = total

    @property
    def variance(self) -> torch.Tensor:
        """Unbiased variance of every feature."""
        return self.squared_deviations / max(self.count - 1, 1)

    @property
    def mean_square(self) -> torch.Tensor:
        """Mean square of every feature."""
        return self.squared_deviations / self.count + self.mean.square()


def reduce_inputs(
    model: PreTrainedModel, family: Family, calibration: torch.Tensor, score: ColumnScore, on_batch: OnBatch
) -> list[LayerImportance]:
    """Importance from the outflow of every unit: ``score`` of the inputs of ``family.attention_output`` and
    ``family.down``, summed over the unit's inputs.

    Keys and values are used only through the query heads that read them, so a key-value head has importance 0 and a
    group has the sum of its query heads. Experts are scored by :class:`ExpertOutputs`, whatever ``score``.

    Args:
        model: bfloat16, float32 or float64.
        calibration: token ids ``[sequences, length]``, int64.

    Raises:
        NotFiniteError: a weight or an activation is NaN or infinite.
    """
    _check_weights(model, family)
    statistics, experts = _measure(model, family, calibration, on_batch)
    head_dim = family.head_dim(model.config)
    importance: list[LayerImportance] = []
    for index, (layer, width) in enumerate(zip(family.decoder_layers(model), family.widths(model.config), strict=True)):
        scores: LayerImportance = {}
        for cut in family.cuts(layer):
            path = cut.parameter.removesuffix(".weight")
            if path in statistics[index] and cut.axis == family.linears[path][1]:
                weight = linear_weight(layer.get_submodule(path))
                sum_units(cut, score(weight, statistics[index][path]), width, head_dim, scores)
        if index in experts:
            scores[Unit.EXPERT] = experts[index].importance()
        if Unit.QUERY_HEAD in scores:
            scores[Unit.KEY_VALUE_HEAD] = torch.zeros(width.num_key_value_heads, dtype=torch.float64)
        importance.append(scores)
    return finite(importance)


def input_statistics(
    model: PreTrainedModel, family: Family, calibration: torch.Tensor, on_batch: OnBatch
) -> list[dict[str, FeatureStatistics]]:
    """For every layer: path of ``family.attention_output`` and ``family.down`` -> statistics of its inputs."""
    return _measure(model, family, calibration, on_batch)[0]


def _measure(
    model: PreTrainedModel, family: Family, calibration: torch.Tensor, on_batch: OnBatch
) -> tuple[list[dict[str, FeatureStatistics]], dict[int, ExpertOutputs]]:
    statistics: list[dict[str, FeatureStatistics]] = []
    experts: dict[int, ExpertOutputs] = {}
    handles = []
    for index, layer in enumerate(family.decoder_layers(model)):
        ends = [path for path in family.linear_paths(layer) if path in (family.attention_output, family.down)]
        statistics.append({path: FeatureStatistics() for path in ends})
        for path, taken in statistics[index].items():
            handles.append(layer.get_submodule(path).register_forward_pre_hook(_taking(taken)))
        path_of_experts = experts_path(family, layer)
        if path_of_experts is not None:
            module = layer.get_submodule(path_of_experts)
            experts[index] = ExpertOutputs(family.widths(model.config)[index].num_experts)
            handles.append(module.register_forward_pre_hook(experts[index].hook))
    with hooked(handles):
        forward_passes(model, calibration, on_batch)
    return statistics, experts


def _taking(statistics: FeatureStatistics) -> Callable[[nn.Module, tuple[torch.Tensor, ...]], None]:
    def take(_module: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        statistics.add(inputs[0].flatten(0, -2))

    return take


def _check_weights(model: PreTrainedModel, family: Family) -> None:
    # Attention kernels can turn NaN into 0, so outputs do not show it
    for index, layer in enumerate(family.decoder_layers(model)):
        for name, tensor in layer.named_parameters():
            if not tensor.isfinite().all():
                raise NotFiniteError(
                    f"Weights of {name} in layer {index} are not finite.",
                    field="model",
                    remedy="Get an undamaged copy of the model.",
                )

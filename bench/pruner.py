"""Pruning one model by many recipes: importance is measured once a criterion, and kept on disk."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

import torch
from torch import nn
from transformers import PreTrainedModel

from bench.llm_pruner import llm_pruner_importance, rounded_down_shape
from bench.recipes import Recipe
from bench.resident_memory import MemoryMeter
from qpruner_core.forward.second_moments import second_moments
from qpruner_core.models.families import Family, Unit
from qpruner_core.prune.compensation import COMPENSATIONS
from qpruner_core.prune.criteria import CRITERIA
from qpruner_core.prune.importance import LayerImportance
from qpruner_core.prune.layer_influence import layer_influence
from qpruner_core.prune.layer_sizes import LayerSizes
from qpruner_core.prune.layouts import plan_shape
from qpruner_core.prune.pruning import prune_to_ratio
from qpruner_core.prune.refit import refitted_weights
from qpruner_core.prune.surgery import prune_model

_INFLUENCE = "influence"
_T = TypeVar("_T")


@dataclass(frozen=True)
class Calibration:
    """``ours``: token ids ``[sequences, length]``; ``llm_pruner``: the batch of its recipe. int64."""

    ours: torch.Tensor
    llm_pruner: torch.Tensor


@dataclass(frozen=True)
class Pruned:
    """A pruned model and what it took; see :class:`bench.rows.Row`."""

    model: PreTrainedModel
    removed: float
    score_seconds: float
    cut_seconds: float
    peak_bytes: int


@dataclass
class _Measured:
    """Importance of every layer's units, or influence of every layer, and what measuring it took."""

    importance: list[LayerImportance] | None
    influence: list[float] | None
    seconds: float
    peak_bytes: int


class Pruner:
    """Prunes ``model``, which stays as it is; what is not cut is shared with the results."""

    def __init__(self, model: PreTrainedModel, family: Family, calibration: Calibration, cache: Path) -> None:
        self._model, self._family, self._calibration, self._cache = model, family, calibration, cache
        self._layer_sizes = LayerSizes.of(model.config, family)
        self._measured: dict[str, _Measured] = {}
        self._moments: dict[nn.Module, torch.Tensor] | None = None

    def prune(self, recipe: Recipe, ratio: float) -> Pruned:
        """``model`` pruned by ``recipe``. Raises as :func:`qpruner_core.prune.pruning.prune_to_ratio` does."""
        if recipe.settings.steps > 1:
            return self._in_steps(recipe, ratio)
        by_influence = recipe.settings.layout == "depth"
        scores = self._measure(_INFLUENCE if by_influence else recipe.importance)
        meter = MemoryMeter()
        with meter.phase("cut"):
            model, removed = self._cut(recipe, ratio, scores)
        (cut,) = meter.peaks
        return Pruned(model, removed, scores.seconds, cut.seconds, max(scores.peak_bytes, cut.anonymous))

    def _cut(self, recipe: Recipe, ratio: float, scores: _Measured) -> tuple[PreTrainedModel, float]:
        settings = recipe.settings
        influence = scores.influence
        if settings.remove_layers:
            influence = self._measure(_INFLUENCE).influence
        shape = (
            rounded_down_shape(self._layer_sizes, settings, ratio)
            if recipe.rounded_down
            else plan_shape(self._layer_sizes, settings, ratio, scores.importance, influence)
        )
        importance = scores.importance or [
            {unit: torch.zeros(widths.count(unit)) for unit in sizes}  # whole layers go: no unit is chosen
            for widths, sizes in zip(self._layer_sizes.widths, self._layer_sizes.unit_parameters, strict=True)
        ]
        compensate = COMPENSATIONS[settings.compensation]
        if settings.compensation == "refit":
            compensate = partial(refitted_weights, moments=self._second_moments())
        replacements = compensate(
            self._model, self._family, shape, importance, self._calibration.ours, lambda done, total: None
        )
        model = prune_model(
            self._model,
            self._family,
            shape,
            importance,
            replacements=replacements,
            output_bias=settings.compensation == "bias",
        )
        return model, self._layer_sizes.removed_fraction(shape)

    def _second_moments(self) -> dict[nn.Module, torch.Tensor]:
        """Those of the dense model, which all recipes in one step share; measured once, in the first row's time."""
        if self._moments is None:
            ends = (self._family.attention_output, self._family.down)
            modules = [
                layer.get_submodule(path)
                for layer in self._family.decoder_layers(self._model)
                for path in self._family.linear_paths(layer)
                if path in ends
            ]
            self._moments = second_moments(self._model, modules, self._calibration.ours, lambda done, total: None)
        return self._moments

    def _in_steps(self, recipe: Recipe, ratio: float) -> Pruned:
        meter = MemoryMeter()
        with meter.phase("steps"):
            model, left = prune_to_ratio(self._model, self._family, recipe.settings, ratio, self._calibration.ours)
        (peak,) = meter.peaks
        return Pruned(model, left.removed_fraction(), peak.seconds, 0.0, peak.anonymous)

    def _measure(self, name: str) -> _Measured:
        if name not in self._measured:
            file = self._cache / f"{name}.pt"
            if not file.exists():
                _write(file, self._anew(name))
            self._measured[name] = _read(file)
        return self._measured[name]

    def _anew(self, name: str) -> _Measured:
        found = _Measured(None, None, 0.0, 0)
        meter = MemoryMeter()
        with meter.phase(name):
            if name == _INFLUENCE:
                found.influence = self._by(layer_influence)
            elif name == "llm_pruner":
                found.importance = llm_pruner_importance(self._model, self._family, self._calibration.llm_pruner)
            else:
                found.importance = self._by(CRITERIA[name])
        found.seconds, found.peak_bytes = meter.peaks[0].seconds, meter.peaks[0].anonymous
        return found

    def _by(self, measure: Callable[..., _T]) -> _T:
        return measure(self._model, self._family, self._calibration.ours, lambda done, total: None)


def _write(file: Path, measured: _Measured) -> None:
    plain = [{unit.value: scores for unit, scores in layer.items()} for layer in measured.importance or []]
    file.parent.mkdir(parents=True, exist_ok=True)
    partial = file.with_suffix(".part")
    torch.save(vars(measured) | {"importance": plain or None}, partial)
    partial.replace(file)  # whole or not at all, however the run ends


def _read(file: Path) -> _Measured:
    found = _Measured(**torch.load(file))
    if found.importance is not None:
        found.importance = [{Unit(unit): scores for unit, scores in layer.items()} for layer in found.importance]
    return found

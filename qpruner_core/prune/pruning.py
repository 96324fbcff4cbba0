"""Pruning a model in memory to a ratio: whole layers first, then widths, in one step or several."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import cast

import torch
from transformers import PretrainedConfig, PreTrainedModel

from qpruner_core.forward.passes import OnBatch
from qpruner_core.models.families import Family, LayerWidths
from qpruner_core.models.reshape import Shape, config_with_shape
from qpruner_core.prune.compensation import COMPENSATIONS
from qpruner_core.prune.config import PruneConfig
from qpruner_core.prune.criteria import CRITERIA
from qpruner_core.prune.importance import LayerImportance
from qpruner_core.prune.layer_influence import layer_influence
from qpruner_core.prune.layer_sizes import LayerSizes
from qpruner_core.prune.layouts import layers_to_remove, plan_shape, refuse_conflicts, remove_layers
from qpruner_core.prune.surgery import prune_model

RATIO_STEP = 0.005
"""Step of the ratio while the pruned model exceeds the budget."""

OnProgress = Callable[[float, str], None]
"""Called with the finished share, in [0, 1], and the present measurement."""
MeetsBudget = Callable[[PretrainedConfig], bool]
"""Whether a model of this config can meet the budget."""


@dataclass(frozen=True)
class PruningOptions:
    """Options of :func:`prune_to_ratio` that do not describe the pruned model.

    Attributes:
        on_progress: progress callback.
        meets_budget: checked after the last step; while it returns false, the ratio is raised by ``RATIO_STEP``.
        consume: free the layers of the model as they are cut, so that memory never holds two copies. The model is
            unusable afterwards.
        importance: importance of the model's units if already known; measured otherwise. Valid only for pruning in one
            step that removes no whole layers.
    """

    on_progress: OnProgress = lambda done, message: None
    meets_budget: MeetsBudget = lambda config: True
    consume: bool = False
    importance: Sequence[LayerImportance] | None = None


def prune_to_ratio(
    model: PreTrainedModel,
    family: Family,
    settings: PruneConfig,
    ratio: float,
    calibration: torch.Tensor,
    options: PruningOptions = PruningOptions(),
) -> tuple[PreTrainedModel, LayerSizes]:
    """Remove ``ratio`` of the parameters of the layers of ``model``; returns the pruned model and its remaining layers.

    Args:
        model: bfloat16 or float32; its gradients must be free to use. Modules that are not cut are shared with the
            result.
        calibration: token ids ``[sequences, length]``, int64.

    Raises:
        InvalidConfigError: the settings contradict each other, or leave too little to remove.
        NotFiniteError: the model's loss or an activation is NaN or infinite.
    """
    refuse_conflicts(settings)
    layer_sizes = LayerSizes.of(model.config, family)
    whole_layers = layers_to_remove(layer_sizes, settings) if ratio else 0
    passes = _Passes(settings, whole_layers > 0, options.on_progress)
    pruning = _Pruning(family, settings, calibration, options, passes)
    if whole_layers:
        model, layer_sizes = pruning.without_layers(model, layer_sizes, whole_layers)
    start = layer_sizes
    for step in range(1, settings.steps + 1 if ratio else 1):
        aim = ratio * step / settings.steps
        meets_budget = options.meets_budget if step == settings.steps else (lambda config: True)
        if layer_sizes.parameters_to_remove(aim) <= 0 and meets_budget(model.config):
            passes.skip()
            continue
        model, layer_sizes = pruning.step(model, (start, layer_sizes), (aim, ratio), meets_budget)
    return model, layer_sizes


@dataclass(frozen=True)
class _Pruning:
    family: Family
    settings: PruneConfig
    calibration: torch.Tensor
    options: PruningOptions
    passes: _Passes

    def without_layers(
        self, model: PreTrainedModel, layer_sizes: LayerSizes, count: int
    ) -> tuple[PreTrainedModel, LayerSizes]:
        """Remove the ``count`` layers of least influence."""
        shape = remove_layers(layer_sizes, self.settings, count, self._influence(model))
        model = prune_model(model, self.family, shape, _all_equal(layer_sizes), consume=self.options.consume)
        return model, layer_sizes.after(shape)

    def step(
        self, model: PreTrainedModel, layer_sizes: tuple[LayerSizes, LayerSizes], ratios: tuple[float, float],
        meets_budget: MeetsBudget,
    ) -> tuple[PreTrainedModel, LayerSizes]:  # fmt: skip
        """One step. ``layer_sizes``: at the start and now; ``ratios``: after this step and after the last one."""
        now = layer_sizes[1]
        by_depth = self.settings.layout == "depth"
        influence = self._influence(model) if by_depth else None
        importance = None if by_depth else self._importance(model)
        shape = self._shape(model, layer_sizes, ratios, meets_budget, importance, influence)
        importance = importance or _all_equal(now)
        pruned = prune_model(
            model, self.family, shape, importance,
            replacements=self._replacements(model, shape, importance),
            output_bias=self.settings.compensation == "bias",
            consume=self.options.consume,
        )  # fmt: skip
        return pruned, now.after(shape)

    def _influence(self, model: PreTrainedModel) -> list[float]:
        return layer_influence(model, self.family, self.calibration, self.passes.next("influence of the layers"))

    def _importance(self, model: PreTrainedModel) -> Sequence[LayerImportance]:
        if self.options.importance is not None:
            return self.options.importance
        criterion = CRITERIA[self.settings.criterion]
        return criterion(model, self.family, self.calibration, self.passes.next("importance"))

    def _shape(
        self, model: PreTrainedModel, layer_sizes: tuple[LayerSizes, LayerSizes], ratios: tuple[float, float],
        meets_budget: MeetsBudget, importance: Sequence[LayerImportance] | None, influence: Sequence[float] | None,
    ) -> Shape:  # fmt: skip
        """The shape at the first ratio, from that of the step upwards, that meets the budget."""
        (start, now), (aim, last) = layer_sizes, ratios
        output_bias = self.settings.compensation == "bias"
        while True:
            shape = shape_of_step(start, now, self.settings, aim, max(aim, last), importance, influence)
            if meets_budget(config_with_shape(model.config, self.family, shape, output_bias=output_bias)):
                return shape
            aim += RATIO_STEP

    def _replacements(
        self, model: PreTrainedModel, shape: Shape, importance: Sequence[LayerImportance]
    ) -> dict[str, torch.Tensor]:
        if not compensates(self.settings):
            return {}
        compensate = COMPENSATIONS[self.settings.compensation]
        on_batch = self.passes.next("compensation")
        return compensate(
            model, self.family, shape, importance, self.calibration, on_batch, consume=self.options.consume
        )


def compensates(settings: PruneConfig) -> bool:
    """Whether removed units are compensated; with whole layers removed, no unit of the others is."""
    return settings.compensation != "none" and settings.layout != "depth"


def shape_of_step(
    start: LayerSizes,
    now: LayerSizes,
    settings: PruneConfig,
    aim: float,
    last: float,
    importance: Sequence[LayerImportance] | None,
    influence: Sequence[float] | None,
) -> Shape:
    """The shape of ``now`` after a step to the ratio ``aim``, on the way from ``start`` to the ratio ``last``.

    If the layout needs no measurement, the last step reaches the widths of a single step: no step goes below them,
    whatever the rounding on the way.
    """
    if settings.layout in ("global", "depth"):
        return plan_shape(now, settings, aim, importance, influence)
    ends = plan_shape(start, settings, last)
    planned = plan_shape(start, settings, aim)
    return [
        _between(cast(LayerWidths, end), cast(LayerWidths, plan), widths)
        for end, plan, widths in zip(ends, planned, now.widths, strict=True)
    ]


def _between(least: LayerWidths, planned: LayerWidths, most: LayerWidths) -> LayerWidths:
    return LayerWidths(
        **{
            name: min(max(getattr(planned, name), getattr(least, name)), getattr(most, name))
            for name in LayerWidths.model_fields
        }
    )


def _all_equal(layer_sizes: LayerSizes) -> list[LayerImportance]:
    """An importance for removing whole layers and no units of the others."""
    return [
        {unit: torch.zeros(widths.count(unit), dtype=torch.float64) for unit in sizes}
        for widths, sizes in zip(layer_sizes.widths, layer_sizes.unit_parameters, strict=True)
    ]


class _Passes:
    """Progress of pruning, counted in passes over the calibration text."""

    def __init__(self, settings: PruneConfig, whole_layers: bool, on_progress: OnProgress) -> None:
        self.whole_layers = whole_layers
        self._steps = settings.steps
        self._passes_per_step = 2 if compensates(settings) else 1
        self._total = whole_layers + settings.steps * self._passes_per_step
        self._done = 0
        self._on_progress = on_progress

    def next(self, message: str) -> OnBatch:
        """The callback (done, total) of the next pass."""
        before = self._done
        self._done += 1
        step = max(before - self.whole_layers, 0) // self._passes_per_step + 1
        shown = message if self._steps == 1 else f"step {step} of {self._steps}: {message}"
        return lambda done, total: self._on_progress((before + done / total) / self._total, shown)

    def skip(self) -> None:
        """Count the passes of a step that had nothing to do."""
        self._done += self._passes_per_step

"""Pruning a model in memory to a ratio: whole layers first, then widths, in one step or several."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import cast

import torch
from transformers import PretrainedConfig, PreTrainedModel

from qpruner_core.forward.passes import OnBatch
from qpruner_core.models.families import Family, LayerWidths
from qpruner_core.models.reshape import Shape, config_with_shape
from qpruner_core.prune.block_influence import block_influence
from qpruner_core.prune.blocks import Blocks
from qpruner_core.prune.compensation import COMPENSATIONS
from qpruner_core.prune.config import PruneConfig
from qpruner_core.prune.criteria import CRITERIA
from qpruner_core.prune.importance import LayerImportance
from qpruner_core.prune.layouts import layers_to_remove, plan_shape, refuse_conflicts, remove_layers
from qpruner_core.prune.surgery import prune_model

RATIO_STEP = 0.005
"""By how much the ratio is raised while the pruned model is larger than the budget allows."""

OnProgress = Callable[[float, str], None]
"""Called with the share that is done, in [0, 1], and what is being measured."""
Fits = Callable[[PretrainedConfig], bool]
"""Whether a model of this config can meet the budget."""


def prune_to_ratio(
    model: PreTrainedModel,
    family: Family,
    settings: PruneConfig,
    ratio: float,
    calibration: torch.Tensor,
    on_progress: OnProgress = lambda done, message: None,
    fits: Fits = lambda config: True,
    *,
    consume: bool = False,
    importance: Sequence[LayerImportance] | None = None,
) -> tuple[PreTrainedModel, Blocks]:
    """``model`` with ``ratio`` of its layers' parameters removed, and what is left of the layers.

    Args:
        model: bfloat16 or float32; its gradients must be free to use, and what is not cut is shared with the result.
        calibration: token ids ``[sequences, length]``, int64.
        consume: free the layers of ``model`` as they are cut, so that memory never holds two copies; it is then of no
            more use.
        fits: asked at the end; where it says no, more is removed than ``ratio`` until it says yes.
        importance: of the units of ``model``, where it is known; else measured. Only for pruning in one step, without
            whole layers.

    Raises:
        InvalidConfigError: the settings contradict each other, or leave too little to remove.
        NotFiniteError: the model's loss or an activation is NaN or infinite.
    """
    refuse_conflicts(settings)
    blocks = Blocks.of(model.config, family)
    passes = _Passes(settings, bool(ratio) and layers_to_remove(blocks, settings) > 0, on_progress)
    if passes.whole_layers:
        influence = block_influence(model, family, calibration, passes.next("influence of the layers"))
        shape = remove_layers(blocks, settings, layers_to_remove(blocks, settings), influence)
        model, blocks = prune_model(model, family, shape, _all_equal(blocks), consume=consume), blocks.after(shape)
    start = blocks
    for step in range(1, settings.steps + 1 if ratio else 1):
        aim = ratio * step / settings.steps
        step_fits = fits if step == settings.steps else (lambda config: True)
        if blocks.parameters_to_remove(aim) <= 0 and step_fits(model.config):
            passes.skip()
            continue
        model, blocks = _step(
            model, family, settings, start, blocks, (aim, ratio), calibration, passes, step_fits, consume, importance
        )
    return model, blocks


def _step(
    model: PreTrainedModel,
    family: Family,
    settings: PruneConfig,
    start: Blocks,
    blocks: Blocks,
    ratios: tuple[float, float],
    calibration: torch.Tensor,
    passes: _Passes,
    fits: Fits,
    consume: bool,
    importance: Sequence[LayerImportance] | None,
) -> tuple[PreTrainedModel, Blocks]:
    influence: list[float] | None = None
    if settings.layout == "depth":
        influence = block_influence(model, family, calibration, passes.next("influence of the layers"))
    elif importance is None:
        importance = CRITERIA[settings.criterion](model, family, calibration, passes.next("importance"))
    aim, last = ratios
    while True:
        shape = shape_of_step(start, blocks, settings, aim, max(aim, last), importance, influence)
        if fits(config_with_shape(model.config, family, shape, output_bias=settings.compensation == "bias")):
            break
        aim += RATIO_STEP
    importance = importance or _all_equal(blocks)
    replacements: dict[str, torch.Tensor] = {}
    if compensates(settings):
        compensate = COMPENSATIONS[settings.compensation]
        on_batch = passes.next("making up for it")
        replacements = compensate(model, family, shape, importance, calibration, on_batch, consume=consume)
    pruned = prune_model(
        model,
        family,
        shape,
        importance,
        replacements=replacements,
        output_bias=settings.compensation == "bias",
        consume=consume,
    )
    return pruned, blocks.after(shape)


def compensates(settings: PruneConfig) -> bool:
    """Whether anything makes up for what is removed; where whole layers go, no unit of the others does."""
    return settings.compensation != "none" and settings.layout != "depth"


def shape_of_step(
    start: Blocks,
    now: Blocks,
    settings: PruneConfig,
    aim: float,
    last: float,
    importance: Sequence[LayerImportance] | None,
    influence: Sequence[float] | None,
) -> Shape:
    """The shape of ``now`` after a step to the ratio ``aim``, on the way from ``start`` to the ratio ``last``.

    Where the layout asks for no measurement, the way ends in the widths that one step would have given: no step goes
    below them, however widths are rounded on the way.
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


def _all_equal(blocks: Blocks) -> list[LayerImportance]:
    """An importance for surgery that takes whole layers and no unit of those that stay."""
    return [
        {unit: torch.zeros(widths.count(unit), dtype=torch.float64) for unit in sizes}
        for widths, sizes in zip(blocks.widths, blocks.unit_parameters, strict=True)
    ]


class _Passes:
    """How far pruning is, counted in passes over the calibration text."""

    def __init__(self, settings: PruneConfig, whole_layers: bool, on_progress: OnProgress) -> None:
        self.whole_layers = whole_layers
        self._steps = settings.steps
        self._a_step = 2 if compensates(settings) else 1
        self._total = whole_layers + settings.steps * self._a_step
        self._done = 0
        self._on_progress = on_progress

    def next(self, message: str) -> OnBatch:
        """What to call with (done, total) during the next pass."""
        before = self._done
        self._done += 1
        step = max(before - self.whole_layers, 0) // self._a_step + 1
        shown = message if self._steps == 1 else f"step {step} of {self._steps}: {message}"
        return lambda done, total: self._on_progress((before + done / total) / self._total, shown)

    def skip(self) -> None:
        """Count the passes of a step that had nothing to do."""
        self._done += self._a_step

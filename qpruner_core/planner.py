"""Bytes at each pruning ratio, for one model and one set of settings, from shapes alone."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from functools import cache
from pathlib import Path

from transformers import PretrainedConfig

from qpruner_core.config import CompressionConfig
from qpruner_core.device_fit.device_budget import MORE_USE, DeviceBudget
from qpruner_core.errors import BudgetInfeasibleError, BudgetInvalidError, InvalidConfigError, QPrunerError
from qpruner_core.mixed.memory_model import MemoryModel
from qpruner_core.models.families import Family
from qpruner_core.models.reshape import Shape, config_with_shape
from qpruner_core.prune.layer_sizes import LayerSizes
from qpruner_core.prune.layouts import (
    layers_to_remove,
    one_of,
    plan_shape,
    refuse_conflicts,
    remove_layers,
    ways_to_prune_more,
)
from qpruner_core.report import BytesByPart, DeviceMemory
from qpruner_core.sizes import format_bytes
from qpruner_core.targets.registry import bind_target

LARGEST_FOUND_RATIO = 0.5
"""Largest ratio without an explicit request: beyond it little of the model is left."""
_LARGEST_RATIO = 0.9
"""Largest allowed ``prune.ratio``."""
_STEPS = 100
PLANNED_BY = ("target", "runs_on", "prune", "quantize", "allocate", "finetune", "fit")
"""Settings that a planner's cached values depend on; the budget in bytes is not among them."""
ENOUGH_BITS = 3.0
"""Bits per weight with a choice, for ``prune.ratio_choice`` "enough_bits". Not measured yet."""
_MOST_FOR_BITS = 20
"""Hundredths that are pruned for more bits beyond the need of the budget."""


class Planner:
    """Computes bytes at each ratio, for one model and one set of settings.

    ``tokenizer``: directory of the model's tokenizer, if it is local. Results that need a model without weights are
    computed once per ratio, and shared with :meth:`for_run`.
    """

    def __init__(
        self,
        config: CompressionConfig,
        dense: PretrainedConfig,
        family: Family,
        tokenizer: Path | None = None,
    ) -> None:
        self.config = config
        self.dense = dense
        self.family = family
        self.target = bind_target(config.target, config.quantize, config.allocate, config.finetune, config.runs_on)
        self.prune, self.notes = self.target.adapted(config.prune, dense, family)
        try:
            refuse_conflicts(self.prune)
        except InvalidConfigError as error:  # possibly with the target's changes of the settings
            error.message = " ".join([error.message, *self.notes])
            raise
        self.layer_sizes = LayerSizes.of(dense, family)
        self.dense_bytes = MemoryModel(dense, family, self.target).dense_bytes
        self._device = (
            None if config.fit is None else DeviceBudget(config.fit, config.target, config.runs_on, dense, family)
        )
        self.smallest = cache(self._smallest)
        self.largest_ratio = cache(self._largest_ratio)
        self._pruned = cache(self._config_at)
        self._refusals = cache(self._refusals_at)
        self._tokenizer_refusal = cache(lambda: self._refusal_of(tokenizer))

    def for_run(self, config: CompressionConfig) -> Planner:
        """The planner of another run of this model, with equal :data:`PLANNED_BY` settings."""
        other = copy.copy(self)
        other.config = config
        return other

    def device(self, ratio: float) -> DeviceMemory | None:
        """Parts of the device's memory at ``ratio``; ``None`` if the budget is in bytes.

        If the shape depends on the data, all parts but the weights are those of the shape that needs the most.
        """
        if self._device is None:
            return None
        known = self.shape_is_known or (ratio == 0 and self.ratio_is_known)
        return self._device.memory(self._pruned(ratio) if known else None)

    def budget(self, ratio: float) -> int:
        """Bytes that the weights may take at ``ratio``: those given, or those that the device leaves."""
        device = self.device(ratio)
        return self.config.memory_budget or 0 if device is None else device.weights

    def meets(self, ratio: float) -> bool:
        """Whether the budget holds at ``ratio``, with everything at the lowest precision."""
        return self.smallest(ratio).total <= self.budget(ratio)

    @property
    def shape_is_known(self) -> bool:
        """Whether the shape follows from the ratio. Otherwise the data decides; the planner's shape has about as many
        parameters."""
        prune = self.prune
        return self.ratio_is_known and prune.layout in ("same_ratio", "stock") and prune.remove_layers == 0

    @property
    def ratio_is_known(self) -> bool:
        """Whether the ratio follows from the bytes. Otherwise several are measured, of which the planner has the
        smallest."""
        return self.prune.ratio is not None or self.prune.ratio_choice != "measured"

    def shape(self, ratio: float) -> Shape:
        """The shape at ``ratio``."""
        return plan_shape(self.layer_sizes, self.prune, ratio)

    def _smallest(self, ratio: float) -> BytesByPart:
        """Bytes at ``ratio`` with everything at the lowest precision."""
        memory = MemoryModel(self._pruned(ratio), self.family, self.target)
        return memory.by_part(memory.lowest)

    def _config_at(self, ratio: float) -> PretrainedConfig:
        bias = self.prune.compensation == "bias" and ratio > 0
        return config_with_shape(self.dense, self.family, self.shape(ratio), output_bias=bias)

    def refuse_what_the_target_cannot(self, ratio: float) -> None:
        """Raise the engine's objections to the dense model, and to the pruned one as far as its shape is known."""
        for refusal in self._refusals(ratio):
            raise copy.copy(refusal)

    def _refusals_at(self, ratio: float) -> list[QPrunerError]:
        found = [self.target.refusal(config, self.family) for config in (self.dense, self._pruned(ratio))]
        return [refusal for refusal in found if refusal is not None]

    def refuse_tokenizer(self) -> None:
        """Raise the engine's objections to the model's tokenizer, if it is local."""
        if (refusal := self._tokenizer_refusal()) is not None:
            raise copy.copy(refusal)

    def _refusal_of(self, tokenizer: Path | None) -> QPrunerError | None:
        return None if tokenizer is None else self.target.tokenizer_refusal(tokenizer, self.dense.vocab_size)

    def infeasible(self) -> BudgetInfeasibleError:
        """The error that no allowed pruning and precision meets the budget."""
        ratio = self.largest_ratio()
        smallest, budget = self.smallest(ratio).total, self.budget(ratio)
        if self._device is not None:
            return self._device.too_small(self._pruned(ratio) if self.shape_is_known else None, smallest)
        return BudgetInfeasibleError(
            f"{budget} bytes ({format_bytes(budget)}) are not feasible: the smallest feasible budget of the "
            f"target {self.target.name} is {smallest} bytes ({format_bytes(smallest)}).",
            smallest_feasible_bytes=smallest,
            remedy=_remedy(self, smallest),
        )

    def refuse_what_fits(self) -> None:
        """Reject a budget that the dense model meets in 16 bits, and an unusable device."""
        if self._device is not None:
            self._device.refuse_unusable()
        budget, dense = self.budget(self.least_ratio()), self.dense_bytes
        if budget >= dense:
            device = self._device is not None
            raise BudgetInvalidError(
                f"The model takes {dense} bytes ({format_bytes(dense)}) in 16 bits, which already fits "
                f"{budget} bytes{(' left for weights' if device else '')}.",
                field="fit.memory" if device else "memory_budget",
                remedy=f"Use the model unchanged, or {MORE_USE if device else f'give a budget below {dense} bytes'}.",
            )

    def smallest_memory(self) -> int | None:
        """Least memory of a device in the same use that the run can fit."""
        return None if self._device is None else self.infeasible().smallest_feasible_bytes

    def _largest_ratio(self) -> float:
        """The given ratio, or the largest that the search for one may reach."""
        if self.prune.ratio is not None:
            return self.prune.ratio
        for step in range(int(LARGEST_FOUND_RATIO * _STEPS), 0, -1):
            try:
                self.shape(step / _STEPS)
            except InvalidConfigError:
                continue
            return step / _STEPS
        return self.least_ratio()

    def least_ratio(self) -> float:
        """The given ratio, or that of the whole layers that are removed in any case."""
        if self.prune.ratio is not None:
            return self.prune.ratio
        count = layers_to_remove(self.layer_sizes, self.prune)
        if count == 0:
            return 0.0
        without = remove_layers(self.layer_sizes, self.prune, count, None)
        return math.ceil(self.layer_sizes.removed_fraction(without) * _STEPS) / _STEPS

    def can_prune_more(self) -> bool:
        """Whether a ratio above :meth:`largest_ratio` removes more."""
        ratio = self.largest_ratio()
        removed = self.layer_sizes.removed_fraction(self.shape(ratio))
        for step in range(math.floor(ratio * _STEPS) + 1, int(_LARGEST_RATIO * _STEPS) + 1):
            try:
                if self.layer_sizes.removed_fraction(self.shape(step / _STEPS)) > removed:
                    return True
            except InvalidConfigError:
                continue
        return False

    def find_ratio(self) -> float:
        """The given ratio, or the smallest hundredth at which the budget holds at the lowest precision.

        With ``ratio_choice`` "enough_bits" the ratio grows until the budget has room for :data:`ENOUGH_BITS`. No more
        is pruned, because pruning costs more quality than those bits.
        """
        if self.prune.ratio is not None:
            return self.prune.ratio
        low, high = round(self.least_ratio() * _STEPS), round(self.largest_ratio() * _STEPS)
        smallest = _first(low, high, lambda step: self.meets(step / _STEPS))
        if self.prune.ratio_choice != "enough_bits":
            return smallest / _STEPS
        most = min(smallest + _MOST_FOR_BITS, max(high, smallest))
        return _first(smallest, most, lambda step: self._has_enough_bits(step / _STEPS)) / _STEPS

    def _has_enough_bits(self, ratio: float) -> bool:
        memory = MemoryModel(self._pruned(ratio), self.family, self.target)
        return memory.bits_within(self.budget(ratio)) >= ENOUGH_BITS


def _first(low: int, high: int, holds: Callable[[int], bool]) -> int:
    """Smallest number from ``low`` for which ``holds`` is true, given that it is true from some number on; ``high`` if
    none below."""
    while low < high:
        middle = (low + high) // 2
        if holds(middle):
            high = middle
        else:
            low = middle + 1
    return low


def _remedy(planner: Planner, smallest: int) -> str:
    settings = planner.prune
    more = (
        ["choose a larger prune.ratio"]
        if planner.can_prune_more()
        else ways_to_prune_more(planner.layer_sizes, settings)
    )
    if planner.target.adapter_rank > 1:
        more.append("choose a smaller quantize.lora_rank")
    ways = one_of(f"use a budget of at least {smallest} bytes", *more)
    return f"{ways.capitalize()}."

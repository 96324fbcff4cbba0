"""What a run will do, worked out from shapes before any work: the ratio, the widths, and whether the budget holds."""

from __future__ import annotations

import math
from collections.abc import Callable

from transformers import PretrainedConfig

from qpruner_core.compute.config import ComputeDtype
from qpruner_core.config import CompressionConfig
from qpruner_core.data import inspect_dataset, refuse_too_few_bytes
from qpruner_core.errors import BudgetInfeasibleError, BudgetInvalidError, InvalidConfigError
from qpruner_core.events import StageName
from qpruner_core.mixed.memory_model import MemoryModel
from qpruner_core.models import inspect_model
from qpruner_core.models.families import Family, find_family
from qpruner_core.models.positions import refuse_beyond_positions
from qpruner_core.models.reshape import Shape, config_with_shape
from qpruner_core.precision_names import BITS_PER_WEIGHT
from qpruner_core.prune.blocks import Blocks
from qpruner_core.prune.layouts import (
    layers_to_remove,
    one_of,
    plan_shape,
    refuse_conflicts,
    remove_layers,
    ways_to_prune_more,
)
from qpruner_core.report import BytesByPart, Estimate
from qpruner_core.sizes import format_bytes
from qpruner_core.source_policy import SourcePolicy
from qpruner_core.speed.data_amounts import DataAmounts
from qpruner_core.speed.record import SpeedRecord, record_of_this_machine
from qpruner_core.speed.stage_times import expected_seconds
from qpruner_core.stage import RunPlan
from qpruner_core.targets.base import Target
from qpruner_core.targets.registry import bind_target
from qpruner_core.workload import refuse_too_much_work

LARGEST_FOUND_RATIO = 0.5
"""The most that is pruned without being asked for by name: beyond it little of the model is left."""
_LARGEST_RATIO = 0.9
"""The most that ``prune.ratio`` may ask for."""
_STEPS = 100
_STAND_IN = "What is removed from which layer depends on the dataset; the bytes are those of an even spread."

_NO_TIMES = "The expected time is not known: no machine has measured its speed yet; the first run there does so."
SpeedSource = Callable[[SourcePolicy, ComputeDtype], SpeedRecord | None]
"""Where the speed comes from that times are worked out from; ``None``: it is not known."""

_MEASURED_RATIO = (
    "prune_ratio is the smallest that meets the budget; the run measures it and larger ones, and takes the best."
)


class Planner:
    """Answers what each ratio would take, for one model and one set of settings."""

    def __init__(self, config: CompressionConfig, dense: PretrainedConfig, family: Family) -> None:
        self.config = config
        self.dense = dense
        self.family = family
        self.blocks = Blocks.of(dense, family)
        self.target = bind_target(config.target, config.quantize, config.allocate, config.finetune)
        self.dense_bytes = MemoryModel(dense, family, self.target).dense_bytes

    @property
    def shape_is_known(self) -> bool:
        """Whether the shape follows from the ratio; else the data decides, and ours has about as many parameters."""
        prune = self.config.prune
        return self.ratio_is_known and prune.layout in ("same_ratio", "stock") and prune.remove_layers == 0

    @property
    def ratio_is_known(self) -> bool:
        """Whether the ratio follows from the bytes; else several are measured, of which ours is the smallest."""
        return self.config.prune.ratio is not None or self.config.prune.ratio_choice == "smallest"

    def shape(self, ratio: float) -> Shape:
        """The shape at ``ratio``."""
        return plan_shape(self.blocks, self.config.prune, ratio)

    def smallest(self, ratio: float) -> BytesByPart:
        """Bytes at ``ratio`` with everything at the lowest precision."""
        memory = MemoryModel(self._pruned(ratio), self.family, self.target)
        return memory.by_part(memory.lowest)

    def _pruned(self, ratio: float) -> PretrainedConfig:
        bias = self.config.prune.compensation == "bias" and ratio > 0
        return config_with_shape(self.dense, self.family, self.shape(ratio), output_bias=bias)

    def around_budget(self, ratio: float) -> Target:
        """The target with the precisions around the budget at ``ratio``; the smallest of them fits."""
        memory = MemoryModel(self._pruned(ratio), self.family, self.target)
        bits = memory.bits_within(self.config.memory_budget)
        while True:
            target = self.target.around(bits)
            memory = MemoryModel(self._pruned(ratio), self.family, target)
            if target.options[0] == self.target.options[0] or memory.total(memory.lowest) <= self.config.memory_budget:
                return target
            bits = BITS_PER_WEIGHT[target.options[0]] - 1e-6

    def largest_ratio(self) -> float:
        """The ratio given, or the largest that may be found."""
        if self.config.prune.ratio is not None:
            return self.config.prune.ratio
        for step in range(int(LARGEST_FOUND_RATIO * _STEPS), 0, -1):
            try:
                self.shape(step / _STEPS)
            except InvalidConfigError:
                continue
            return step / _STEPS
        return self.least_ratio()

    def least_ratio(self) -> float:
        """The ratio given, or that of the whole layers that are to go in any case."""
        if self.config.prune.ratio is not None:
            return self.config.prune.ratio
        count = layers_to_remove(self.blocks, self.config.prune)
        if count == 0:
            return 0.0
        without = remove_layers(self.blocks, self.config.prune, count, None)
        return math.ceil(self.blocks.removed_fraction(without) * _STEPS) / _STEPS

    def can_prune_more(self) -> bool:
        """Whether a ratio above :meth:`largest_ratio` removes more."""
        ratio = self.largest_ratio()
        removed = self.blocks.removed_fraction(self.shape(ratio))
        for step in range(math.floor(ratio * _STEPS) + 1, int(_LARGEST_RATIO * _STEPS) + 1):
            try:
                if self.blocks.removed_fraction(self.shape(step / _STEPS)) > removed:
                    return True
            except InvalidConfigError:
                continue
        return False

    def find_ratio(self) -> float:
        """The ratio given, or the smallest hundredth at which the budget holds at the lowest precision.

        Pruning costs more quality than 4 bits do, so no more is pruned than the budget asks for.
        """
        low, high = round(self.least_ratio() * _STEPS), round(self.largest_ratio() * _STEPS)
        if self.config.prune.ratio is not None:
            return self.config.prune.ratio
        while low < high:
            middle = (low + high) // 2
            if self.smallest(middle / _STEPS).total <= self.config.memory_budget:
                high = middle
            else:
                low = middle + 1
        return low / _STEPS


def make_plan(config: CompressionConfig, dense: PretrainedConfig) -> RunPlan:
    """The ratio of a run, and the shape where that follows from it.

    Raises:
        BudgetInfeasibleError: no allowed pruning and precision meets the budget; it says the smallest that can.
        BudgetInvalidError: the model fits already.
        InvalidConfigError: sequences are longer than the model reads, or nothing can be pruned at the ratio.
    """
    planner = Planner(config, dense, find_family(dense.model_type))
    _refuse_what_the_model_cannot(planner)
    smallest = planner.smallest(planner.largest_ratio()).total
    if smallest > config.memory_budget:
        raise BudgetInfeasibleError(
            f"{config.memory_budget} bytes ({format_bytes(config.memory_budget)}) cannot be met: "
            f"the smallest feasible budget is {smallest} bytes ({format_bytes(smallest)}).",
            smallest_feasible_bytes=smallest,
            remedy=_remedy(planner, smallest),
        )
    ratio = planner.find_ratio()
    nothing_goes = ratio == 0 and planner.ratio_is_known
    shape = planner.shape(ratio) if planner.shape_is_known or nothing_goes else None
    return RunPlan(
        dense_config=dense, family=planner.family, ratio=ratio, shape=shape, target=planner.around_budget(ratio)
    )


def _remedy(planner: Planner, smallest: int) -> str:
    settings = planner.config.prune
    more = ["choose a larger prune.ratio"] if planner.can_prune_more() else ways_to_prune_more(planner.blocks, settings)
    ways = one_of(f"ask for at least {smallest} bytes", *more, "choose a smaller quantize.lora_rank")
    return f"{ways.capitalize()}."


def estimate(
    config: CompressionConfig,
    *,
    policy: SourcePolicy | None = None,
    check_dataset: bool = True,
    speed: SpeedSource = record_of_this_machine,
) -> Estimate:
    """What :func:`qpruner_core.compress` would do, without doing it; an infeasible budget is an answer, not an error.

    Raises the same errors for a model or dataset that cannot be used. ``check_dataset=False`` skips the dataset.
    ``speed``: of the machine that the times are of; by default this one, which is measured once, in a few seconds.
    """
    policy = policy or SourcePolicy()
    description = inspect_model(config.model, policy)
    text_bytes = None
    dataset_warnings: tuple[str, ...] = ()
    if check_dataset:
        dataset = inspect_dataset(config.dataset, policy)
        text_bytes, dataset_warnings = dataset.text_bytes, dataset.warnings
        refuse_too_few_bytes(text_bytes, config.sequence_length)
    planner = Planner(config, description.config, find_family(description.config.model_type))
    _refuse_what_the_model_cannot(planner)
    smallest = planner.smallest(planner.largest_ratio())
    feasible = smallest.total <= config.memory_budget
    ratio = planner.find_ratio() if feasible else planner.largest_ratio()
    parts = planner.smallest(ratio)
    seconds, note = _times(planner, ratio, text_bytes, speed(policy, config.compute_dtype))
    return Estimate(
        feasible=feasible,
        memory_budget=config.memory_budget,
        dense_bytes=planner.dense_bytes,
        smallest_feasible_bytes=smallest.total,
        prune_ratio=ratio,
        predicted_bytes=parts,
        predicted_total_bytes=parts.total,
        stage_seconds=seconds,
        notes=(
            "predicted_bytes is at the lowest precision everywhere; the search spends what is left of the budget.",
            *(() if planner.shape_is_known or ratio == 0 else (_STAND_IN,)),
            *(() if planner.ratio_is_known else (_MEASURED_RATIO,)),
            note,
            *dataset_warnings,
        ),
    )


def _times(
    planner: Planner, ratio: float, text_bytes: int | None, record: SpeedRecord | None
) -> tuple[dict[StageName, float], str]:
    """Expected seconds of each stage, and what they rest on, in a sentence."""
    if record is None:
        return {}, _NO_TIMES
    data = DataAmounts.asked(planner.config, text_bytes)
    seconds = expected_seconds(planner.config, planner.dense, planner.family, record, ratio=ratio, data=data)
    learned = ", corrected by the stages that ran there before" if record.observations else ""
    return seconds, f"The expected time rests on speeds measured on {record.speed.machine}{learned}."


def check(config: CompressionConfig, *, policy: SourcePolicy | None = None, check_dataset: bool = True) -> Estimate:
    """As :func:`estimate`, without times; but an infeasible budget raises :class:`BudgetInfeasibleError`."""
    result = estimate(config, policy=policy, check_dataset=check_dataset, speed=lambda policy, setting: None)
    if not result.feasible:
        make_plan(config, inspect_model(config.model, policy or SourcePolicy()).config)
    return result


def _refuse_what_the_model_cannot(planner: Planner) -> None:
    refuse_conflicts(planner.config.prune)
    refuse_too_much_work(planner.config)
    length, generated = planner.config.sequence_length, planner.config.evaluate.generated_tokens
    refuse_beyond_positions(planner.dense, length, "sequence_length", what=f"Sequences of {length} tokens")
    refuse_beyond_positions(
        planner.dense, generated + 1, "evaluate.generated_tokens", what=f"{generated} tokens behind a prompt"
    )
    if planner.config.memory_budget >= planner.dense_bytes:
        raise BudgetInvalidError(
            f"The model takes {planner.dense_bytes} bytes ({format_bytes(planner.dense_bytes)}) in 16 bits, "
            f"which is within {planner.config.memory_budget} bytes as it is.",
            field="memory_budget",
            remedy=f"Use the model as it is, or ask for fewer than {planner.dense_bytes} bytes.",
        )

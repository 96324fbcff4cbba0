"""The plan of a run, computed from shapes before any work: the ratio, the widths and the feasibility of the budget."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from transformers import PretrainedConfig

from qpruner_core.compute.config import ComputeDtype
from qpruner_core.config import CompressionConfig, parse_config
from qpruner_core.data import DatasetDescription, refuse_too_few_bytes
from qpruner_core.errors import UserError
from qpruner_core.events import StageName
from qpruner_core.known_models import KnownModel, KnownModels
from qpruner_core.models.families import find_family
from qpruner_core.models.positions import refuse_beyond_positions
from qpruner_core.planner import Planner
from qpruner_core.report import Estimate
from qpruner_core.source_policy import SourcePolicy
from qpruner_core.speed.data_amounts import DataAmounts
from qpruner_core.speed.record import SpeedRecord, record_of_this_machine
from qpruner_core.speed.stage_times import expected_seconds
from qpruner_core.stage import RunPlan
from qpruner_core.workload import refuse_too_much_work

NO_DATASET = "-"
"""Placeholder for the dataset of a config that is only estimated."""

_STAND_IN = "The bytes assume that removal is spread evenly over layers; the actual spread depends on the dataset."

_NO_TIMES = "The expected time is unknown: no machine has measured its speed yet. The first run measures it."
SpeedSource = Callable[[SourcePolicy, ComputeDtype], SpeedRecord | None]
"""Returns the machine speed that expected times are computed from; ``None`` if it is unknown."""

_MEASURED_RATIO = (
    "The prune ratio is the smallest that meets the budget. The run also measures larger ratios and takes the best."
)


def make_plan(config: CompressionConfig, dense: PretrainedConfig) -> RunPlan:
    """Compute a run's ratio and byte budget for weights, and the pruned shape if it follows from the ratio.

    Raises:
        BudgetInfeasibleError: no allowed pruning and precision meets the budget; it carries the smallest feasible one.
        BudgetInvalidError: the model fits already.
        UnsupportedByTargetError: the target's engine cannot run the dense or the pruned model.
        InvalidConfigError: sequences exceed the model's context, or nothing can be pruned at the ratio.
    """
    planner = Planner(config, dense, find_family(dense.model_type))
    _refuse_what_the_model_cannot(planner)
    if not planner.meets(planner.largest_ratio()):
        raise planner.infeasible()
    ratio = planner.find_ratio()
    planner.refuse_what_the_target_cannot(ratio)
    nothing_goes = ratio == 0 and planner.ratio_is_known
    shape = planner.shape(ratio) if planner.shape_is_known or nothing_goes else None
    return RunPlan(
        dense_config=dense, family=planner.family, ratio=ratio, prune=planner.prune, shape=shape,
        target=planner.target, notes=planner.notes, memory_budget=planner.budget(ratio),
        device=planner.device(ratio),
    )  # fmt: skip


def estimate(
    config: CompressionConfig | Mapping[str, Any],
    *,
    policy: SourcePolicy | None = None,
    check_dataset: bool = True,
    speed: SpeedSource = record_of_this_machine,
    known: KnownModels | None = None,
) -> Estimate:
    """Predict the result of :func:`qpruner_core.compress` without running it: feasibility, bytes, ratio and time.

    An infeasible budget is a result with ``feasible=False``, not an error.

    Args:
        config: a config, or its settings as for :func:`qpruner_core.parse_config`. Settings need no ``dataset``;
            without one, the expected time assumes as much text as the settings ask for.
        policy: allowed sources of models and datasets.
        check_dataset: read the dataset; ``False`` skips it.
        speed: source of the machine speed for the expected time; by default this machine, measured once in a few
            seconds.
        known: cache of models and datasets that were already inspected.

    Raises:
        UserError: the model, dataset or settings are unusable.
        BudgetInfeasibleError: the device has no room for any weights beside KV cache, activations and engine.
    """
    if not isinstance(config, CompressionConfig):
        check_dataset = check_dataset and config.get("dataset") is not None
        config = parse_config({"dataset": NO_DATASET, **{name: it for name, it in config.items() if it is not None}})
    policy, known = policy or SourcePolicy(), known or KnownModels()
    model, dataset = _look_at(config, policy, known, check_dataset)
    text_bytes = None
    dataset_warnings: tuple[str, ...] = ()
    if dataset is not None:
        text_bytes, dataset_warnings = dataset.text_bytes, dataset.warnings
        refuse_too_few_bytes(text_bytes, config.sequence_length)
    planner = known.planner(config, model)
    _refuse_what_the_model_cannot(planner)
    planner.refuse_tokenizer()
    smallest = planner.smallest(planner.largest_ratio())
    feasible = planner.meets(planner.largest_ratio())
    if planner.budget(planner.largest_ratio()) < 1:
        raise planner.infeasible()
    ratio = planner.find_ratio() if feasible else planner.largest_ratio()
    planner.refuse_what_the_target_cannot(ratio)
    parts = planner.smallest(ratio)
    seconds, note = _times(planner, ratio, text_bytes, speed(policy, config.compute_dtype))
    return Estimate(
        feasible=feasible,
        memory_budget=planner.budget(ratio),
        device=planner.device(ratio),
        smallest_feasible_memory=planner.smallest_memory(),
        dense_bytes=planner.dense_bytes,
        smallest_feasible_bytes=smallest.total,
        prune_ratio=ratio,
        predicted_bytes=parts,
        predicted_total_bytes=parts.total,
        stage_seconds=seconds,
        notes=(
            "Predicted bytes assume the lowest precision everywhere; the search spends the rest of the budget.",
            *(() if planner.shape_is_known or ratio == 0 else (_STAND_IN,)),
            *(() if planner.ratio_is_known else (_MEASURED_RATIO,)),
            *planner.notes,
            note,
            *dataset_warnings,
        ),
    )


def _look_at(
    config: CompressionConfig, policy: SourcePolicy, known: KnownModels, check_dataset: bool
) -> tuple[KnownModel, DatasetDescription | None]:
    """Model and dataset; where neither can be used, the error is the model's, with the dataset's in ``others``."""
    try:
        model = known.model(config.model, policy)
    except UserError as error:
        if check_dataset:
            try:
                known.dataset(config.dataset, policy)
            except UserError as other:
                error.others = (other,)
        raise
    return model, known.dataset(config.dataset, policy) if check_dataset else None


def _times(
    planner: Planner, ratio: float, text_bytes: int | None, record: SpeedRecord | None
) -> tuple[dict[StageName, float], str]:
    """Expected seconds per stage, and a sentence that names their source."""
    if record is None:
        return {}, _NO_TIMES
    data = DataAmounts.asked(planner.config, text_bytes)
    seconds = expected_seconds(
        planner.config, planner.dense, planner.family, record, ratio=ratio, data=data,
        target=planner.target,
    )  # fmt: skip
    learned = ", corrected by earlier stages on it" if record.observations else ""
    return seconds, f"The expected time is based on speeds measured on {record.speed.machine}{learned}."


def check(
    config: CompressionConfig,
    *,
    policy: SourcePolicy | None = None,
    check_dataset: bool = True,
    known: KnownModels | None = None,
) -> Estimate:
    """:func:`estimate` without times; an infeasible budget raises :class:`BudgetInfeasibleError`."""
    policy, known = policy or SourcePolicy(), known or KnownModels()
    result = estimate(
        config, policy=policy, check_dataset=check_dataset, speed=lambda policy, setting: None, known=known
    )
    if not result.feasible:
        raise known.planner(config, known.model(config.model, policy)).infeasible()
    return result


def _refuse_what_the_model_cannot(planner: Planner) -> None:
    refuse_too_much_work(planner.config)
    length, generated = planner.config.sequence_length, planner.config.evaluate.generated_tokens
    refuse_beyond_positions(planner.dense, length, "sequence_length", what=f"Sequences of {length} tokens")
    refuse_beyond_positions(
        planner.dense, generated + 1, "evaluate.generated_tokens", what=f"{generated} tokens after a prompt"
    )
    planner.refuse_what_fits()

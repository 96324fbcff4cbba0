"""What trials are judged by gives the same for the same allocation, measured or remembered."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from qpruner_core.adapters import WEIGHTS, adapter_name
from qpruner_core.allocate.objectives import RecoveredLoss, make_objective, remembered
from qpruner_core.compute.choice import choose_compute
from qpruner_core.data import prepare_data, read_dataset
from qpruner_core.events import CancelToken, ignore_event
from qpruner_core.fitting.precision_bank import fitted_bank
from qpruner_core.mixed.groups import precision_groups
from qpruner_core.mixed.mixed_model import load_mixed_model
from qpruner_core.models import load_model, load_tokenizer, resolve_model
from qpruner_core.models.model_config import CONFIG_FILE, read_config
from qpruner_core.planning import make_plan
from qpruner_core.quantize.stage import ADAPTER, MODEL
from qpruner_core.resources import best_device
from qpruner_core.search.known_trials import KNOWN_TRIALS, KnownTrials
from qpruner_core.search.trial import Proposal, TrialMeasurement
from qpruner_core.source_policy import SourcePolicy
from qpruner_core.stage import StageContext
from qpruner_core.stage_store import StageStore
from tests.core.pipeline.conftest import FinishedRun, search_again, without_seconds


@pytest.fixture
def context(finished_run: FinishedRun) -> StageContext:
    """The finished run as its allocate stage saw it."""
    config = finished_run.config
    source = resolve_model(config.model, SourcePolicy())
    dataset = read_dataset(config.dataset, SourcePolicy())
    data = prepare_data(
        dataset, load_tokenizer(source.directory), sequence_length=64, calibration_sequences=4,
        held_out_tokens=config.evaluate.max_tokens, max_choices=1, seed=0,
    )  # fmt: skip
    return StageContext(
        "allocate", config, source, dataset.sha256, make_plan(config, read_config(source.directory / CONFIG_FILE)),
        lambda: data, StageStore(finished_run.output.with_name("out.work")), ignore_event, CancelToken(),
        choose_compute(config.compute_dtype, best_device(), SourcePolicy().cache_dir),
    )  # fmt: skip


def some_allocations(context: StageContext, count: int) -> list[tuple[str, ...]]:
    model = load_model(context.finished("prune") / "model")
    groups = precision_groups(model, context.plan.family, context.plan.target)
    generator = random.Random(0)
    return [tuple(generator.choice(list(group.options)) for group in groups) for _ in range(count)]


def test_a_loss_after_recovery_does_not_depend_on_what_was_measured_before(context: StageContext) -> None:
    groups = precision_groups(load_model(context.finished("prune") / "model"), context.plan.family, context.plan.target)
    first, second = some_allocations(context, 2)
    brief = context.config.allocate.model_copy(update={"recovery_steps": 3})
    context.config = context.config.model_copy(update={"allocate": brief})
    loss = RecoveredLoss(context, groups, lambda done: None)
    alone = loss(second)
    assert loss(first) != alone
    assert loss(second) == alone
    assert RecoveredLoss(context, groups, lambda done: None)(second) == alone


@pytest.mark.parametrize("stop_above", [float("inf"), 0.0])
def test_a_known_trial_gives_exactly_what_measuring_gives(
    context: StageContext, tmp_path: Path, stop_above: float
) -> None:
    context.config = context.config.model_copy(
        update={"allocate": context.config.allocate.model_copy(update={"screening_sequences": 1})}
    )
    objective = make_objective(context, lambda done: None)
    proposals = [
        Proposal(index, "random", allocation, 0, sequences=2, screening=1)
        for index, allocation in enumerate(some_allocations(context, 3))
    ]
    known = KnownTrials(tmp_path / KNOWN_TRIALS, "key")
    full = list(remembered(partial(map, objective), known)(proposals))
    assert len(known) == 3
    asked = [dataclasses.replace(proposal, stop_above=stop_above) for proposal in proposals]

    def refuse(proposals: Sequence[Proposal]) -> list[TrialMeasurement]:
        assert not proposals, "measured again"
        return []

    again = KnownTrials(tmp_path / KNOWN_TRIALS, "key")
    recalled = [dataclasses.replace(one, seconds=0.0) for one in remembered(refuse, again)(asked)]
    measured = [dataclasses.replace(objective(one), seconds=0.0) for one in asked]
    assert recalled == measured
    if stop_above == 0.0:
        assert {one.sequences for one in recalled} == {1}
    else:
        assert recalled == [dataclasses.replace(one, seconds=0.0) for one in full]


def test_a_search_goes_the_same_way_with_and_without_memory(finished_run: FinishedRun, tmp_path: Path) -> None:
    settings: dict[str, Any] = {"screening_sequences": 1, "trials": 14, "random_seeds": 6, "batch": 2}
    fresh = search_again(finished_run, tmp_path / "out", **settings).trials
    other = search_again(finished_run, tmp_path / "out", **settings | {"trials": 15}).trials
    assert without_seconds(other)[: len(fresh)] == without_seconds(fresh)
    assert all(trial.seconds == 0.0 for trial in other[: len(fresh)] if not trial.stopped_early)


def test_finalists_are_the_best_trials_and_the_best_of_them_after_recovery_is_taken(
    finished_run: FinishedRun, tmp_path: Path
) -> None:
    found = search_again(finished_run, tmp_path / "out", finalists=3, recovery_steps=2)
    finalists = [trial for trial in found.trials if trial.recovered_loss is not None]
    others = [trial for trial in found.trials if trial.recovered_loss is None and not trial.stopped_early]
    assert len(finalists) == 3
    assert max(trial.loss for trial in finalists) <= min(trial.loss for trial in others)
    assert found.best.recovered_loss == min(trial.recovered_loss or 0.0 for trial in finalists)


def test_the_bank_has_the_weights_of_the_written_model_with_its_adapter(
    context: StageContext, finished_run: FinishedRun
) -> None:
    model = load_model(context.finished("prune") / "model")
    groups = precision_groups(model, context.plan.family, context.plan.target)
    bank = fitted_bank(context, model, groups)
    written = load_mixed_model(context.finished("quantize") / MODEL, dequantize=True)
    adapter = load_file(context.finished("quantize") / ADAPTER / WEIGHTS)
    scaling = context.config.quantize.lora_alpha / context.config.quantize.lora_rank
    compared = set()
    for index, (group, option) in enumerate(zip(groups, finished_run.report.precisions, strict=True)):
        for name, tried in zip(group.modules, bank.values(index, option), strict=True):
            weight = written.get_submodule(name).weight.float()
            if group.layer is not None and option != "bf16":
                weight += scaling * adapter[adapter_name(name, "B")].float() @ adapter[adapter_name(name, "A")].float()
            assert torch.allclose(tried.float(), weight, rtol=2**-7, atol=2**-10 * float(weight.abs().max()))
            compared.add(option)
    assert compared - {"bf16"}

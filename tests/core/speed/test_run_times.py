from __future__ import annotations

from pathlib import Path

import pytest

from qpruner_core import parse_config
from qpruner_core.compute.choice import choose_compute
from qpruner_core.events import STAGES, Event, MachineSpeedKnown, StageFinished, StageName, TimesExpected
from qpruner_core.models.families import find_family
from qpruner_core.resources import best_device
from qpruner_core.source_policy import SourcePolicy, default_cache_dir
from qpruner_core.speed.data_amounts import DataAmounts
from qpruner_core.speed.machine import identity_key, machine_identity
from qpruner_core.speed.record import SpeedRecord, store_record, stored_record
from qpruner_core.speed.run_times import RunTimes
from qpruner_core.stage import RunPlan
from qpruner_core.stage_store import StageStore
from qpruner_core.targets.registry import bind_target
from tests.core.small_models import small_config
from tests.made_up_speed import made_up_speed

PRODUCTS = choose_compute("auto", best_device(), default_cache_dir()).products

KEY = identity_key(machine_identity(PRODUCTS))


@pytest.fixture
def policy(tmp_path: Path) -> SourcePolicy:
    """A cache that knows a speed of this machine."""
    policy = SourcePolicy(cache_dir=tmp_path / "cache")
    store_record(policy.cache_dir, SpeedRecord(speed=made_up_speed(KEY)))
    return policy


def run(policy: SourcePolicy, work: Path, *, resumed: tuple[StageName, ...] = (), seconds: float = 7.0) -> list[Event]:
    """What a run of all stages tells that took ``seconds`` for each that it computed."""
    config = parse_config(
        {"model": "m", "dataset": "d", "target": "bitsandbytes", "memory_budget": 1, "sequence_length": 64}
    )
    plan = RunPlan(
        small_config("llama"),
        find_family("llama"),
        ratio=0.0,
        prune=config.prune,
        shape=None,
        target=bind_target(config.target, config.quantize, config.allocate),
        memory_budget=1,
    )
    told: list[Event] = []
    times = RunTimes(config, plan, DataAmounts.asked(config, None), policy, StageStore(work), told.append)
    for stage in STAGES:
        times(
            StageFinished(
                stage=stage, key="k", directory="d", files=[], summary={}, seconds=seconds, resumed=stage in resumed
            )
        )
    return told


def observed(policy: SourcePolicy) -> set[StageName]:
    record = stored_record(policy.cache_dir, KEY)
    assert record is not None
    return set(record.observations)


def test_a_run_tells_its_expected_times_first_and_every_event_after(policy: SourcePolicy, tmp_path: Path) -> None:
    told = run(policy, tmp_path / "work")
    assert [type(event) for event in told[:2]] == [MachineSpeedKnown, TimesExpected]
    assert isinstance(told[1], TimesExpected)
    assert set(told[1].seconds) == set(STAGES)
    assert [event.stage for event in told if isinstance(event, StageFinished)] == list(STAGES)
    last = [event for event in told if isinstance(event, MachineSpeedKnown)][-1]
    assert SpeedRecord.model_validate(last.record) == stored_record(policy.cache_dir, KEY)


def test_the_next_run_expects_what_this_one_took(policy: SourcePolicy, tmp_path: Path) -> None:
    before = run(policy, tmp_path / "one")[1]
    assert isinstance(before, TimesExpected)
    run(policy, tmp_path / "two", seconds=2 * before.seconds["score"])
    after = run(policy, tmp_path / "three")[1]
    assert isinstance(after, TimesExpected)
    assert before.seconds["score"] < after.seconds["score"]


def test_only_stages_that_the_run_computed_from_the_beginning_count(policy: SourcePolicy, tmp_path: Path) -> None:
    run(policy, tmp_path / "work", resumed=("allocate",))
    assert observed(policy) == {"prune", "score"}


def test_a_run_that_goes_on_from_a_killed_one_does_not_count(policy: SourcePolicy, tmp_path: Path) -> None:
    (tmp_path / "work" / "finetune.progress").mkdir(parents=True)
    run(policy, tmp_path / "work")
    assert observed(policy) == set()

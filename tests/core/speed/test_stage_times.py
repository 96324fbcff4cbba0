from __future__ import annotations

import json
from pathlib import Path
from typing import Any, cast

import pytest
from transformers import AutoConfig

from qpruner_core import parse_config
from qpruner_core.events import STAGES, StageName
from qpruner_core.models.families import find_family
from qpruner_core.planner import Planner
from qpruner_core.speed.data_amounts import DataAmounts
from qpruner_core.speed.record import Observation, SpeedRecord
from qpruner_core.speed.stage_times import expected_seconds
from tests.core.small_models import small_config
from tests.made_up_speed import made_up_speed

RECORD = SpeedRecord(speed=made_up_speed())
OBSERVED = sorted((Path(__file__).parent / "observed").glob("*.json"))
WORTH_A_CLOCK = 5.0
"""Seconds of a stage from which on its time matters to anybody."""


def times(
    settings: dict[str, Any], *, record: SpeedRecord = RECORD, data: DataAmounts | None = None
) -> dict[StageName, float]:
    values = {
        "model": "m",
        "dataset": "d",
        "target": "bitsandbytes",
        "memory_budget": 1,
        "sequence_length": 2048,
    } | settings
    dense = small_config("llama", hidden_size=768, intermediate_size=2048)
    return expected_seconds(parse_config(values), dense, find_family("llama"), record, ratio=0.2, data=data)


def seconds(stage: str, **settings: Any) -> float:
    return times({stage: settings})[cast(StageName, stage)]


def test_what_recovery_does_more_takes_longer() -> None:
    steps = {"steps": 1000, "loss": "cross_entropy"}
    alone = seconds("finetune", **steps)
    assert seconds("finetune", **steps | {"loss": "distillation"}) > 1.15 * alone
    assert seconds("finetune", **steps | {"activation_checkpointing": True}) > 1.15 * alone
    assert seconds("finetune", **steps | {"steps": 2000}) > 1.9 * alone
    assert seconds("finetune", **steps | {"gradient_accumulation": 2}) > 1.9 * alone
    assert seconds("finetune", **steps | {"evaluate_every": 10, "validation_sequences": 100}) > 2 * alone
    assert seconds("finetune", steps=0) < alone / 10


def test_more_trials_take_longer_unless_one_allocation_is_all_that_is_tried() -> None:
    assert seconds("allocate", trials=80) > 1.5 * seconds("allocate", trials=40)
    assert seconds("allocate", trials=40, search="knapsack") < seconds("allocate", trials=40) / 5
    assert seconds("allocate", trials=80, search="knapsack") == seconds("allocate", trials=40, search="knapsack")
    recovered = {"objective": "recovered", "prior": "none", "trials": 40}
    assert seconds("allocate", **recovered, recovery_steps=10) > 1.2 * seconds("allocate", trials=40)
    assert seconds("allocate", **recovered, recovery_steps=40) > 2 * seconds("allocate", **recovered, recovery_steps=10)


@pytest.mark.parametrize(
    ("stage", "less", "more"),
    [
        ("prune", {"criterion": "magnitude", "compensation": "none"}, {"criterion": "wanda", "compensation": "none"}),
        ("prune", {"criterion": "wanda"}, {"criterion": "taylor_second"}),
        ("prune", {"steps": 1}, {"steps": 4}),
        ("prune", {}, {"ratio_choice": "measured"}),
        ("prune", {"calibration_sequences": 4}, {"calibration_sequences": 64}),
        ("score", {"sensitivity": "divergence"}, {"sensitivity": "divergence", "sensitivity_context": "mean"}),
        ("score", {}, {"fisher_samples": 32}),
        ("allocate", {}, {"finalists": 8}),
        ("allocate", {}, {"front_points": 40}),
        ("allocate", {"trials": 40, "granularity": "layer"}, {"trials": 40, "granularity": "module"}),
        ("evaluate", {"generated_tokens": 8}, {"generated_tokens": 800}),
        ("evaluate", {"max_tokens": 4096}, {"max_tokens": 65536}),
        ("export", {"formats": ["mixed"]}, {"formats": ["mixed", "merged"]}),
    ],
)
def test_settings_that_ask_for_more_work_take_longer(stage: str, less: dict[str, Any], more: dict[str, Any]) -> None:
    assert seconds(stage, **more) > seconds(stage, **less)


PACKED = {
    "gguf": ("q2_k", "q3_k", "iq4_xs", "q4_k", "q5_k", "q6_k", "q8_0"),
    "compressed-tensors": ("int4_g32", "int4_g64", "int4_g128", "int8_channel"),
}


@pytest.mark.parametrize("target", PACKED)
def test_formats_that_are_slow_to_pack_take_longer_in_the_stages_that_pack_them(target: str) -> None:
    fast = made_up_speed()
    slow = fast.model_copy(update={"rounding": fast.rounding | dict.fromkeys(PACKED[target], 2e-6)})
    quick, slower = (times({"target": target}, record=SpeedRecord(speed=speed)) for speed in (fast, slow))
    added = {stage: slower[stage] - quick[stage] for stage in STAGES}
    assert added["score"] > 3 * added["quantize"] > 0  # a sample at each format, and the error of one
    assert added["allocate"] > 4 * added["quantize"]  # whole modules are fitted
    assert {stage for stage in STAGES if added[stage] > 0} == {"score", "allocate", "quantize"}


def test_a_slower_machine_takes_longer_in_proportion() -> None:
    fast, slow = (
        times({"finetune": {"steps": 1000}}, record=SpeedRecord(speed=made_up_speed(slowness=slowness)))
        for slowness in (1.0, 10.0)
    )
    for stage in ("prune", "score", "allocate", "finetune"):
        assert slow[stage] == pytest.approx(10 * fast[stage], rel=0.2)


def test_a_small_dataset_takes_no_longer_than_it_has_text() -> None:
    config = parse_config(
        {"model": "m", "dataset": "d", "target": "bitsandbytes", "memory_budget": 1, "sequence_length": 64}
    )
    little, much = DataAmounts.asked(config, 4_000), DataAmounts.asked(config, 100_000_000)
    assert (little.held_out, little.calibration < 16) == (pytest.approx(1.6, abs=0.1), True)
    assert (much.held_out, much.calibration) == (config.evaluate.max_tokens // 64, 32)
    assert times({}, data=little)["evaluate"] < times({}, data=much)["evaluate"]


def test_stages_that_ran_before_correct_the_next_estimate() -> None:
    before = times({})
    stages: tuple[StageName, ...] = ("prune", "finetune")
    record = RECORD
    for _ in range(3):
        record = record.observed(
            {stage: Observation(expected=before[stage], measured=3 * before[stage]) for stage in stages}
        )
    after = times({}, record=record)
    for stage in STAGES:
        assert after[stage] == pytest.approx(before[stage] * (3 if stage in stages else 1), rel=0.01)


@pytest.mark.parametrize("file", OBSERVED, ids=lambda file: file.stem)
def test_stages_of_a_real_run_took_as_long_as_expected_within_a_factor_of_two(file: Path) -> None:
    """Of runs that were recorded once, with the speed of their machine as it was measured before."""
    run = json.loads(file.read_text())
    config, dense = parse_config(run["settings"]), AutoConfig.for_model(**run["model"])
    planner = Planner(config, dense, find_family(dense.model_type))
    expected = expected_seconds(
        config, dense, planner.family, SpeedRecord.model_validate({"speed": run["speed"]}),
        ratio=run["settings"]["prune"]["ratio"], data=DataAmounts.asked(config, run["dataset_bytes"]),
        target=planner.target,
    )  # fmt: skip
    long = {stage: measured for stage, measured in run["seconds"].items() if measured > WORTH_A_CLOCK}
    assert len(long) >= 4
    off = {stage: measured / expected[stage] for stage, measured in long.items()}
    assert all(0.5 <= ratio <= 2 for ratio in off.values()), off
    assert 0.5 <= sum(run["seconds"].values()) / sum(expected.values()) <= 2


def test_there_are_recorded_runs() -> None:
    assert OBSERVED

"""What of a finished run is used again when a setting changes."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from qpruner_core import compress, parse_config
from qpruner_core.data import DataDigests
from qpruner_core.events import STAGES, Event, StageFinished, StageName
from qpruner_core.models.families import find_family
from qpruner_core.stage import RunPlan
from qpruner_core.stage_keys import stage_keys
from qpruner_core.stage_store import StageStore
from qpruner_core.targets.registry import bind_target
from tests.core.pipeline.conftest import QUICK, FinishedRun

DATA = DataDigests(train="t", probe="p", measured="m")
SETTINGS: dict[StageName, dict[str, Any]] = {
    "prune": {
        "ratio": 0.2, "criterion": "wanda", "layout": "global", "attention_unit": "query_head", "compensation": "none",
        "steps": 2, "protect_first": 2, "protect_last": 2, "width_multiple": 16, "calibration_sequences": 5,
        "remove_layers": 1, "ratio_choice": "measured",
    },
    "score": {"calibration_sequences": 3, "clusters": 9, "sensitivity": "divergence", "fisher_samples": 3},
    "allocate": {
        "trials": 9, "random_seeds": 3, "candidates": 51, "calibration_sequences": 3, "finalists": 3, "front_points": 3,
        "search": "knapsack", "batch": 2, "screening_sequences": 1,
    },
    "finetune": {"steps": 13, "batch_size": 3, "learning_rate": 0.003, "validation_sequences": 3, "packing": False},
    "export": {"formats": ["merged"], "max_shard_size": 100_000},
    "evaluate": {"max_tokens": 256, "max_choices": 3, "generated_tokens": 3},
}  # fmt: skip
"""Another value of settings of each stage. Those of quantize are read by the score stage already, which fits modules,
and the precisions, granularity and embeddings of allocate too."""
CASES = [(stage, name, value) for stage, own in SETTINGS.items() for name, value in own.items()]


def keys_of(data: DataDigests = DATA, loss: str = "distillation", **overrides: Any) -> dict[StageName, str]:
    config = parse_config({"model": "m", "dataset": "d", **_merged(QUICK, overrides)})
    plan = RunPlan(
        dense_config=None,  # type: ignore[arg-type]
        family=find_family("llama"),
        ratio=0.25,
        prune=config.prune,
        shape=[],
        target=bind_target(config.target, config.quantize, config.allocate, config.finetune),
        memory_budget=config.memory_budget or 0,
    )
    return stage_keys(config, plan, data, model="model", versions={}, products="bfloat16", loss=loss)


def _merged(values: dict[str, Any], more: dict[str, Any]) -> dict[str, Any]:
    return values | {
        name: {**values.get(name, {}), **value} if isinstance(value, dict) else value for name, value in more.items()
    }


def changed(before: dict[StageName, str], after: dict[StageName, str]) -> tuple[StageName, ...]:
    return tuple(stage for stage in STAGES if before[stage] != after[stage])


@pytest.mark.parametrize(("stage", "name", "value"), CASES, ids=[f"{stage}.{name}" for stage, name, _ in CASES])
def test_another_value_of_a_setting_leaves_the_stages_before_its_own(stage: StageName, name: str, value: Any) -> None:
    assert changed(keys_of(), keys_of(**{stage: {name: value}})) == STAGES[STAGES.index(stage) :]


@pytest.mark.parametrize(
    ("part", "first"), [("train", "prune"), ("probe", "quantize"), ("measured", "evaluate")]
)  # fmt: skip
def test_other_data_is_in_the_key_of_the_first_stage_that_reads_it(part: str, first: StageName) -> None:
    other = DataDigests(**{"train": "t", "probe": "p", "measured": "m", part: "other"})
    assert changed(keys_of(), keys_of(other)) == STAGES[STAGES.index(first) :]


def test_the_loss_that_recovery_takes_is_in_its_key_whoever_chose_it() -> None:
    other = keys_of(loss="cross_entropy")
    assert changed(keys_of(), other)[0] == "finetune"
    assert keys_of(loss="cross_entropy", finetune={"loss": "cross_entropy"}) == other


def test_a_recovery_by_the_other_loss_is_not_taken_over(finished_run: FinishedRun, tmp_path: Path) -> None:
    before = finished_run.output.with_name("out.work")
    work = tmp_path / "work"
    for stage in STAGES[:4]:
        shutil.copytree(before / stage, work / stage)
    wanted: list[str] = []
    values = finished_run.config.model_dump(mode="json")

    def find_stage(stage: StageName, key: str) -> bool:
        if stage == "finetune":  # what another job would bring
            wanted.append(key)
            shutil.copytree(before / stage, work / stage)
        return stage == "finetune"

    events: list[Event] = []
    config = parse_config(values | {"expected": {"recovery_loss": "cross_entropy"}})
    compress(config, tmp_path / "out", work_dir=work, on_event=events.append, find_stage=find_stage)
    (told,) = [one for one in events if isinstance(one, StageFinished) and one.stage == "finetune"]
    assert (told.resumed, told.summary["loss"]) == (False, "cross_entropy")
    store = StageStore(before)
    assert wanted == [told.key] != [store.key("finetune")]
    again: list[Event] = []  # what is finished decides, whatever is free now
    compress(parse_config(values), tmp_path / "out", work_dir=work, on_event=again.append)
    assert all(one.resumed for one in again if isinstance(one, StageFinished))


def test_recovery_is_in_the_key_of_a_search_that_recovers() -> None:
    search = {"objective": "recovered", "prior": "none"}
    before, after = keys_of(allocate=search), keys_of(allocate=search, finetune={"learning_rate": 0.1})
    assert changed(keys_of(), before)[0] == "allocate"
    assert changed(before, after)[0] == "allocate"


@pytest.mark.parametrize(
    ("overrides", "again"),
    [
        ({"evaluate": {"max_tokens": 256}}, ["evaluate"]),
        ({"export": {"formats": ["merged"]}}, ["export", "evaluate"]),
    ],
)
def test_a_run_computes_only_what_a_setting_changes(
    overrides: dict[str, Any], again: list[str], finished_run: FinishedRun, tmp_path: Path
) -> None:
    work = tmp_path / "work"
    shutil.copytree(finished_run.output.with_name("out.work"), work)
    values = finished_run.config.model_dump(mode="json")
    config = parse_config(_merged(values, overrides))
    events: list[Event] = []
    report = compress(config, tmp_path / "out", work_dir=work, on_event=events.append)
    assert [one.stage for one in events if isinstance(one, StageFinished) and not one.resumed] == again
    final = report.measurement("final")
    assert final.bytes == report.predicted_bytes
    assert final.compared_tokens == config.evaluate.max_tokens // 64 * 63

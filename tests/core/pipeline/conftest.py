"""A finished run on the tiny model, shared by tests that only look at it."""

from __future__ import annotations

import shutil
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from qpruner_core import CancelToken, CompressionConfig, CompressionReport, compress, parse_config
from qpruner_core.allocate.config import AllocateConfig
from qpruner_core.errors import CancelledError
from qpruner_core.events import Event, EventCallback, MetricRecorded, StageFinished, StageName, ignore_event
from qpruner_core.search.allocation import ALLOCATION, AllocationResult
from qpruner_core.search.trial import Trial
from qpruner_core.stage_store import list_files
from tests.made_once import made_once

QUICK: dict[str, Any] = {
    "target": "bitsandbytes",
    "memory_budget": 300_000,
    "sequence_length": 64,
    "prune": {"ratio": 0.25, "protect_first": 1, "protect_last": 1, "width_multiple": 8, "calibration_sequences": 4},
    "score": {"calibration_sequences": 2, "clusters": 8},
    "allocate": {
        "trials": 8,
        "random_seeds": 2,
        "candidates": 50,
        "calibration_sequences": 2,
        "granularity": "block",
    },
    "finetune": {"steps": 12, "batch_size": 4, "learning_rate": 0.002, "validation_sequences": 4},
    "evaluate": {"max_tokens": 512, "generated_tokens": 2},
}


def quick_config(model: Path, dataset: Path, **overrides: Any) -> CompressionConfig:
    return parse_config({"model": str(model), "dataset": str(dataset), **QUICK, **overrides})


def checkpoint_hashes(output: Path) -> dict[str, str]:
    """All that a run writes but report.json, which tells times."""
    return {record.path: record.sha256 for record in list_files(output) if record.path != "report.json"}


BEFORE_RECOVERY: tuple[StageName, ...] = ("prune", "score", "allocate", "quantize")


def continued(run: FinishedRun, output: Path, *stages: str) -> Path:
    """``output``, whose work directory has these ``stages`` of ``run``; those that are there already stay."""
    source, work = (place.with_name(f"{place.name}.work") for place in (run.output, output))
    for stage in stages:
        if not (work / stage).exists():
            shutil.copytree(source / stage, work / stage)
    return output


def recover_until(config: CompressionConfig, output: Path, stop_at: int | None = None) -> tuple[Path, list[Event]]:
    """Run up to the end of the fine-tune stage, or to a step of it: its directory, and all events."""
    events: list[Event] = []
    cancel = CancelToken()

    def listen(event: Event) -> None:
        events.append(event)
        at_step = isinstance(event, MetricRecorded) and event.name == "finetune.loss" and event.step == stop_at
        if at_step or (isinstance(event, StageFinished) and event.stage == "finetune"):
            cancel.cancel()

    with pytest.raises(CancelledError):
        compress(config, output, on_event=listen, cancel=cancel)
    return output.with_name(f"{output.name}.work") / "finetune", events


def steps_told(events: list[Event], name: str = "finetune.loss") -> list[int]:
    """The steps of that metric, in order."""
    return [event.step for event in events if isinstance(event, MetricRecorded) and event.name == name]


def search_again(
    run: FinishedRun, output: Path, *, on_event: EventCallback = ignore_event, **allocate: Any
) -> AllocationResult:
    """The allocation that ``run`` finds under other settings of the search, from what it has pruned and scored; ends
    with the allocate stage. Fits are there, trials are not."""
    work = output.with_name(output.name + ".work")
    if not work.exists():
        continued(run, output, "prune", "score", "fits")
    settings = run.config.allocate.model_dump(mode="json") | allocate
    config = run.config.model_copy(update={"allocate": AllocateConfig.model_validate(settings)})
    cancel = CancelToken()

    def listen(event: Event) -> None:
        on_event(event)
        if isinstance(event, StageFinished) and event.stage == "allocate":
            cancel.cancel()

    with suppress(CancelledError):
        compress(config, output, work_dir=work, on_event=listen, cancel=cancel)
    return AllocationResult.model_validate_json((work / "allocate" / ALLOCATION).read_bytes())


def without_seconds(trials: list[Trial]) -> list[dict[str, Any]]:
    """What must not change from one search to another."""
    return [trial.model_dump(exclude={"seconds"}) for trial in trials]


@dataclass(frozen=True)
class FinishedRun:
    config: CompressionConfig
    output: Path
    report: CompressionReport
    events: list[Event]


@pytest.fixture(scope="session")  # not the package: files of others may come between those of this one
def finished_run(tiny_llama: Path, text_dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> FinishedRun:

    def make(folder: Path) -> FinishedRun:
        config = quick_config(tiny_llama, text_dataset)
        events: list[Event] = []
        report = compress(config, folder / "out", on_event=events.append)
        return FinishedRun(config, folder / "out", report, events)

    return made_once(tmp_path_factory, "finished-run", make)

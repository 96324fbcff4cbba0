"""A finished run on the tiny model, shared by tests that only look at it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from qpruner_core import CompressionConfig, CompressionReport, compress, parse_config
from qpruner_core.events import Event
from qpruner_core.stage_store import list_files

QUICK: dict[str, Any] = {
    "memory_budget": 300_000,
    "sequence_length": 64,
    "prune": {"ratio": 0.25, "protect_first": 1, "protect_last": 1, "width_multiple": 8, "calibration_sequences": 4},
    "score": {"calibration_sequences": 2, "clusters": 8},
    "allocate": {"trials": 8, "random_seeds": 2, "candidates": 50, "calibration_sequences": 2},
    "finetune": {"steps": 12, "batch_size": 4, "learning_rate": 0.002},
    "evaluate": {"max_tokens": 1024, "generated_tokens": 2},
}


def quick_config(model: Path, dataset: Path, **overrides: Any) -> CompressionConfig:
    return parse_config({"model": str(model), "dataset": str(dataset), **QUICK, **overrides})


def checkpoint_hashes(output: Path) -> dict[str, str]:
    """All that a run writes but report.json, which tells times."""
    return {record.path: record.sha256 for record in list_files(output) if record.path != "report.json"}


@dataclass(frozen=True)
class FinishedRun:
    config: CompressionConfig
    output: Path
    report: CompressionReport
    events: list[Event]


@pytest.fixture(scope="package")
def finished_run(tiny_llama: Path, text_dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> FinishedRun:
    config = quick_config(tiny_llama, text_dataset)
    output = tmp_path_factory.mktemp("run") / "out"
    events: list[Event] = []
    report = compress(config, output, on_event=events.append)
    return FinishedRun(config, output, report, events)

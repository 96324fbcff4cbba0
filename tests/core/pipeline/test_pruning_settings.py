"""Whole runs whose pruned shape is known only from the data."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from qpruner_core import compress
from tests.core.pipeline.conftest import QUICK, FinishedRun, quick_config


def origin(checkpoint: Path) -> dict[str, Any]:
    """What config.json says was pruned."""
    pruned: dict[str, Any] = json.loads((checkpoint / "config.json").read_text())["qpruner"]["pruned"]
    return pruned


@pytest.mark.parametrize(
    "changed",
    [
        {"layout": "global", "remove_layers": 1, "steps": 2, "ratio": 0.4, "criterion": "wanda"},
        {"layout": "depth", "ratio": None},
    ],
)
def test_a_run_whose_shape_the_data_decides_meets_its_budget_exactly_as_predicted(
    changed: dict[str, Any], tiny_llama: Path, text_dataset: Path, tmp_path: Path
) -> None:
    config = quick_config(tiny_llama, text_dataset, memory_budget=250_000, prune=QUICK["prune"] | changed)
    report = compress(config, tmp_path / "out")
    assert report.measurement("final").bytes == report.predicted_bytes <= 250_000
    assert report.pruning is not None
    assert report.pruning.removed_layers
    assert {0, 5}.isdisjoint(report.pruning.removed_layers)
    assert report.pruning.parameters_after == report.measurement("pruned").parameters
    assert report.pruning.bytes_after == report.measurement("pruned").bytes
    assert len(report.widths) == len(report.bits) == 6 - len(report.pruning.removed_layers)
    for checkpoint in ("mixed", "merged"):
        pruned = origin(tmp_path / "out" / checkpoint)
        assert pruned["model"] == tiny_llama.name
        assert pruned["revision"] is None
        assert pruned["removed_layers"] == report.pruning.removed_layers


def test_every_checkpoint_and_the_card_say_what_was_pruned(finished_run: FinishedRun) -> None:
    pruning = finished_run.report.pruning
    assert pruning is not None
    assert pruning.ratio == 0.25
    assert pruning.removed_fraction == pytest.approx(0.25, abs=0.02)
    removed = pruning.block_parameters_before - pruning.block_parameters_after
    assert removed == pruning.parameters_before - pruning.parameters_after
    assert removed / pruning.block_parameters_before == pytest.approx(pruning.removed_fraction, abs=1e-6)
    for checkpoint in ("mixed", "merged"):
        told = origin(finished_run.output / checkpoint)
        assert told["removed_fraction"] == pruning.removed_fraction
        assert told["criterion"] == finished_run.config.prune.criterion
        assert str(finished_run.config.model) not in (finished_run.output / checkpoint / "config.json").read_text()
    card = (finished_run.output / "merged" / "README.md").read_text()
    assert f"| {pruning.parameters_before} | {pruning.parameters_after} |" in card

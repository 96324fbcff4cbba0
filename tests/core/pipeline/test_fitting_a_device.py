"""A run whose budget is a device: its files fit what the device leaves, and a second run makes the same."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from qpruner_core.errors import BudgetInfeasibleError
from qpruner_core.pipeline import compress
from qpruner_core.planning import check
from tests.core.pipeline.conftest import checkpoint_hashes, quick_config


def test_a_run_that_fits_a_device_says_how_and_makes_the_same_again(
    tiny_llama: Path, text_dataset: Path, tmp_path: Path
) -> None:
    use = {"memory": 1, "context": 64, "sequences": 2, "device": "cpu"}
    with pytest.raises(BudgetInfeasibleError) as caught:
        check(quick_config(tiny_llama, text_dataset, memory_budget=None, fit=use))
    use["memory"] = caught.value.smallest_feasible_bytes + 50_000
    config = quick_config(tiny_llama, text_dataset, memory_budget=None, fit=use)
    report = compress(config, tmp_path / "out")
    device = report.device
    assert device is not None
    assert device.weights + device.kv_cache + device.activations + device.engine == use["memory"]
    assert report.measurement("final").bytes <= report.memory_budget == device.weights
    recipe = json.loads((tmp_path / "out" / "recipe.json").read_text())
    assert recipe["memory_budget"] == device.weights
    assert recipe["device"] == device.model_dump(mode="json")
    compress(config, tmp_path / "again")
    assert checkpoint_hashes(tmp_path / "again") == checkpoint_hashes(tmp_path / "out")
    given = quick_config(tiny_llama, text_dataset, memory_budget=device.weights)
    resumed = compress(given, tmp_path / "bytes", work_dir=tmp_path / "out.work")
    assert resumed.precisions == report.precisions
    assert resumed.stage_seconds == report.stage_seconds

"""Every preset runs the pipeline, and does what it says."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from qpruner_core import CompressionReport, compress
from qpruner_core.adapters import WEIGHTS
from qpruner_core.quantize.stage import ADAPTER
from qpruner_core.search.allocation import ALLOCATION, AllocationResult
from tests.core.pipeline.conftest import QUICK, quick_config


@pytest.fixture
def run(tiny_llama: Path, text_dataset: Path, tmp_path: Path) -> Any:
    """Compress with a preset, at the settings that a tiny model needs: few layers to protect, few sequences."""

    def compress_with(preset: str, **overrides: Any) -> tuple[CompressionReport, AllocationResult]:
        settings: dict[str, Any] = {
            "prune": {"ratio": 0.25, "protect_first": 1, "protect_last": 1, "calibration_sequences": 4},
            "allocate": {"trials": 6, "random_seeds": 4, "calibration_sequences": 2, "recovery_steps": 2},
            "finetune": {"steps": 2, "batch_size": 4},
            "memory_budget": 457_000,
        }
        config = quick_config(tiny_llama, text_dataset, preset=preset, **(settings | overrides))
        report = compress(config, tmp_path / "out")
        found = AllocationResult.model_validate_json((tmp_path / "out.work" / "allocate" / ALLOCATION).read_bytes())
        return report, found

    return compress_with


def first_adapters(tmp_path: Path) -> dict[str, Any]:
    tensors: dict[str, Any] = load_file(tmp_path / "out.work" / "quantize" / ADAPTER / WEIGHTS)
    return tensors


def test_llm_pruner_keeps_16_bits_and_begins_with_adapters_of_zero(run: Any, tmp_path: Path) -> None:
    report, found = run("llm-pruner")
    assert set(report.precisions) == {"bf16"}
    assert len(found.trials) == 1
    assert not any(tensor.any() for name, tensor in first_adapters(tmp_path).items() if "lora_B" in name)


def test_qpruner1_has_nf4_everywhere_and_adapters_that_make_up_for_it(run: Any, tmp_path: Path) -> None:
    report, found = run("qpruner1", memory_budget=QUICK["memory_budget"])
    assert set(report.precisions) == {"nf4"}
    assert len(found.trials) == 1
    assert all(tensor.any() for name, tensor in first_adapters(tmp_path).items() if "lora_B" in name)


def test_qpruner2_gives_int8_to_the_layers_that_tell_most_of_the_prediction(run: Any, tmp_path: Path) -> None:
    report, found = run("qpruner2", memory_budget=270_000)
    information = json.loads((tmp_path / "out.work" / "score" / "scores.json").read_text())["mutual_information"]
    order = sorted(range(len(information)), key=lambda layer: -information[layer])
    assert [trial.origin for trial in found.trials] == ["mutual_information"]
    assert set(report.precisions) == {"nf4", "int8"}
    assert report.precisions[order[0]] == "int8"
    assert all(name.startswith("layers.") for name in report.groups)


def test_qpruner3_searches_by_the_loss_after_recovery_from_the_allocation_of_qpruner2(run: Any) -> None:
    report, found = run("qpruner3", memory_budget=270_000)
    assert found.trials[0].origin == "mutual_information"
    assert {"random", "bayesian"} <= {trial.origin for trial in found.trials}
    assert not any(trial.stopped_early for trial in found.trials)
    assert report.precisions == list(min(found.trials, key=lambda trial: (trial.loss, trial.bytes)).precisions)
    assert min(trial.loss for trial in found.trials) > 1.0  # nats of a token, not a divergence

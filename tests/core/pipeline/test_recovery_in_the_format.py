"""Recovery of what ships in the format: the model keeps its precisions and bytes, and no adapter lies beside it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from qpruner_core import CompressionConfig, compress
from qpruner_core.events import Event
from qpruner_core.finetune.config import Recovery
from qpruner_core.mixed.mixed_model import read_mixed_config
from qpruner_core.models import load_model
from qpruner_core.models.checkpoint import read_header, tensor_bytes
from qpruner_core.models.shards import StoredTensors
from qpruner_core.stage_store import file_sha256, list_files
from tests.core.pipeline.conftest import (
    BEFORE_RECOVERY,
    FinishedRun,
    continued,
    quick_config,
    recover_until,
    steps_told,
)

WAYS: tuple[Recovery, ...] = ("merge", "scales", "merge+scales")
WEIGHTS = "model.safetensors"


@pytest.fixture(scope="module")
def run(tiny_llama: Path, text_dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> FinishedRun:
    """A whole run for the target gguf, recovered by scales alone."""
    finetune = {"steps": 8, "batch_size": 4, "checkpoint_every": 3, "evaluate_every": 4, "loss": "cross_entropy"}
    config = quick_config(
        tiny_llama, text_dataset, target="gguf", memory_budget=170_000,
        finetune=finetune | {"recovery": "scales", "learning_rate": 0.005, "scale_learning_rate": 0.02},
        allocate={"trials": 4, "random_seeds": 2, "candidates": 20, "calibration_sequences": 2},
        export={"formats": ("gguf", "merged")},
    )  # fmt: skip
    output = tmp_path_factory.mktemp("in-the-format") / "out"
    events: list[Event] = []
    return FinishedRun(config, output, compress(config, output, on_event=events.append), events)


def recovered_by(run: FinishedRun, recovery: Recovery, **settings: Any) -> CompressionConfig:
    changed = {"recovery": recovery, **settings}
    return run.config.model_copy(update={"finetune": run.config.finetune.model_copy(update=changed)})


def recover(
    run: FinishedRun, config: CompressionConfig, output: Path, stop_at: int | None = None
) -> tuple[Path, list[Event]]:
    """As :func:`recover_until`, from what ``run`` has quantized."""
    return recover_until(config, continued(run, output, *BEFORE_RECOVERY), stop_at)


def hashes(stage: Path) -> dict[str, str]:
    return {record.path: record.sha256 for record in list_files(stage)}


@pytest.fixture(scope="module")
def undisturbed(run: FinishedRun, tmp_path_factory: pytest.TempPathFactory) -> dict[Recovery, tuple[Path, list[Event]]]:
    return {way: recover(run, recovered_by(run, way), tmp_path_factory.mktemp(way) / "out") for way in WAYS}


@pytest.mark.parametrize("way", WAYS)
def test_the_model_keeps_its_precisions_and_bytes_and_has_no_adapter(
    way: Recovery, run: FinishedRun, undisturbed: dict[Recovery, tuple[Path, list[Event]]]
) -> None:
    stage, events = undisturbed[way]
    quantized = run.output.with_name("out.work") / "quantize"
    assert not (quantized / "adapter").exists()
    assert not (stage / "adapter").exists()
    precision = read_mixed_config(stage / "model")[1]
    assert precision == read_mixed_config(quantized / "model")[1]
    assert not precision.adapters
    assert read_header(stage / "model" / WEIGHTS) == read_header(quantized / "model" / WEIGHTS)
    assert file_sha256(stage / "model" / WEIGHTS) != file_sha256(quantized / "model" / WEIGHTS)
    assert {path.name for path in (stage / "model").iterdir()} == {
        path.name for path in (quantized / "model").iterdir()
    }
    assert steps_told(events) == list(range(1, 9))
    summary = json.loads((stage / "stage.json").read_text())["summary"]
    assert summary["recovery"] == way
    assert summary["steps"] == 8
    told = steps_told(events, "finetune.validation_loss")
    assert told == [step for step, _ in summary["validation"]]
    assert told == ([0, 4, 4, 8] if way == "merge+scales" else [0, 4, 8])


@pytest.mark.parametrize("way", WAYS)
def test_what_was_kept_back_is_predicted_better(way: Recovery, run: FinishedRun, tmp_path: Path) -> None:
    config = recovered_by(run, way, steps=24, evaluate_every=24)  # after 8, rounding weighs as much as training
    stage, _ = recover(run, config, tmp_path / "out")
    curve = json.loads((stage / "stage.json").read_text())["summary"]["validation"]
    assert curve[-1][1] < curve[0][1]


@pytest.mark.parametrize(("way", "step"), [("merge", 4), ("scales", 5), ("merge+scales", 2), ("merge+scales", 7)])
def test_a_recovery_that_was_stopped_goes_on_there_and_ends_the_same(
    way: Recovery, step: int, run: FinishedRun, undisturbed: dict[Recovery, tuple[Path, list[Event]]], tmp_path: Path
) -> None:
    config = recovered_by(run, way)
    recover(run, config, tmp_path / "out", stop_at=step)
    stage, events = recover(run, config, tmp_path / "out")
    assert steps_told(events) == list(range(step + 1, 9))
    assert hashes(stage) == hashes(undisturbed[way][0])
    assert not stage.with_name("finetune.progress").exists()


def test_without_steps_the_quantized_model_is_handed_on(run: FinishedRun, tmp_path: Path) -> None:
    stage, _ = recover(run, recovered_by(run, "merge+scales", steps=0), tmp_path / "out")
    quantized = run.output.with_name("out.work") / "quantize" / "model"
    assert hashes(stage / "model") == hashes(quantized)


def test_what_was_recovered_is_exported_measured_and_within_the_budget(run: FinishedRun) -> None:
    report = run.report
    final = report.measurement("final")
    assert final.bytes <= report.predicted_bytes <= report.memory_budget
    assert final.perplexity != report.measurement("mixed").perplexity
    merged = load_model(run.output / "merged")
    with StoredTensors(run.output.with_name("out.work") / "finetune" / "model") as stored:
        norm = stored.get("model.norm.weight")
    assert torch.equal(merged.get_parameter("model.norm.weight"), norm)


def test_an_adapter_counts_as_bytes_where_it_ships(
    tiny_llama: Path, text_dataset: Path, run: FinishedRun, tmp_path: Path
) -> None:
    settings = run.config.finetune.model_dump() | {"recovery": "adapter", "steps": 2}
    allocate = run.config.allocate.model_dump()
    config = quick_config(
        tiny_llama, text_dataset, target="gguf", memory_budget=230_000, finetune=settings, allocate=allocate,
        export={"formats": ("merged",)},
    )  # fmt: skip
    report = compress(config, tmp_path / "out")
    assert (tmp_path / "out.work" / "finetune" / "adapter").is_dir()
    assert (tmp_path / "out.work" / "quantize" / "adapter").is_dir()
    adapter = read_header(tmp_path / "out.work" / "finetune" / "adapter" / "adapter_model.safetensors")
    model = read_header(tmp_path / "out.work" / "quantize" / "model" / WEIGHTS)
    tensors = [*adapter.values(), *model.values()]
    norms = [tensor for tensor in tensors if len(tensor[0]) == 1]  # llama.cpp has them in 32 bits
    both = sum(tensor_bytes(*tensor) for tensor in tensors + norms)
    assert both == report.predicted_bytes <= 230_000

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel
from transformers import AutoModelForCausalLM

from qpruner_core import compress
from qpruner_core.loading import load_compressed, load_mixed_checkpoint
from qpruner_core.mixed.mixed_model import load_mixed_model
from qpruner_core.models.families import register_families
from tests.core.pipeline.conftest import FinishedRun, quick_config

IDS = torch.arange(3, 35).unsqueeze(0)


@pytest.fixture(scope="module")
def run_by_error(tiny_llama: Path, text_dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> FinishedRun:
    """A run whose adapters have ranks of their own."""
    settings = {"rank_allocation": "error", "initialisation": "qera", "lora_rank": 4}
    config = quick_config(
        tiny_llama, text_dataset, quantize=settings, allocate={"trials": 4, "calibration_sequences": 2}
    )
    output = tmp_path_factory.mktemp("by-error") / "out"
    return FinishedRun(config, output, compress(config, output), [])


def modules(run: FinishedRun) -> dict[str, dict[str, Any]]:
    rows: dict[str, dict[str, Any]] = json.loads(
        (run.output.with_name("out.work") / "quantize" / "output_errors.json").read_text()
    )
    return rows


def test_the_error_of_the_outputs_is_told_before_and_after(finished_run: FinishedRun) -> None:
    (summary,) = [
        event.summary for event in finished_run.events if event.type == "stage_finished" and event.stage == "quantize"
    ]
    assert 0 < summary["output_error"]["after"] < summary["output_error"]["before"] < 0.2
    rows = modules(finished_run)
    assert {row["rank"] for row in rows.values()} == {finished_run.config.quantize.lora_rank}
    assert all((row["before"] == 0) == (row["precision"] == "bf16") for row in rows.values())


def test_ranks_by_error_differ_and_take_at_most_the_bytes_predicted(run_by_error: FinishedRun) -> None:
    report = run_by_error.report
    assert len({row["rank"] for row in modules(run_by_error).values()}) > 1
    final = report.measurement("final").bytes
    assert 0.99 * report.predicted_bytes <= final <= report.predicted_bytes <= report.memory_budget


def test_ranks_by_error_survive_export_and_load_in_stock_peft(run_by_error: FinishedRun) -> None:
    mixed, work = run_by_error.output / "mixed", run_by_error.output.with_name("out.work")
    ranks = {row["rank"] for row in modules(run_by_error).values()}
    config = LoraConfig.from_pretrained(str(mixed / "adapter"))
    assert set(config.rank_pattern.values()) | {config.r} >= ranks
    evaluated = load_mixed_checkpoint(work / "quantize" / "model", work / "finetune" / "adapter")
    model, _ = load_compressed(mixed)
    stock = PeftModel.from_pretrained(load_mixed_model(mixed), str(mixed / "adapter"))
    for name, parameter in stock.named_parameters():
        if ".lora_" in name:
            parameter.data = parameter.data.to(torch.bfloat16)
    register_families()
    merged = AutoModelForCausalLM.from_pretrained(run_by_error.output / "merged", dtype=torch.bfloat16)
    with torch.no_grad():
        expected = evaluated(IDS).logits
        assert torch.equal(model(IDS).logits, expected)
        assert torch.equal(stock(IDS).logits, expected)
        assert (merged(IDS).logits - expected).float().norm() < 0.05 * expected.float().norm()


def test_without_its_adapter_the_exported_model_says_something_else(run_by_error: FinishedRun) -> None:
    model, _ = load_compressed(run_by_error.output / "mixed")
    assert isinstance(model, PeftModel)
    bare = load_mixed_model(run_by_error.output / "mixed")
    with torch.no_grad(), model.disable_adapter():
        off = model(IDS).logits
    with torch.no_grad():
        assert torch.equal(off, bare(IDS).logits)
        assert not torch.equal(off, model(IDS).logits)

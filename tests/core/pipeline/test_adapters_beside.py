"""Runs whose recovery is an adapter that ships: what is held against the budget and measured is base and adapter."""

from __future__ import annotations

from pathlib import Path

import pytest
from peft import PeftModel

from qpruner_core import compress
from qpruner_core.evaluate.evaluate_checkpoint import load_checkpoint
from qpruner_core.formats.registry import load_format
from qpruner_core.loading import held_bytes
from tests.core.pipeline.conftest import quick_config

BUDGETS = [("gguf", 420_000), ("compressed-tensors", 420_000), ("compressed-tensors", 300_000)]
"""With 420,000 bytes compressed-tensors is in 16 bits throughout, and its config says nothing of quantization."""
PLACES = {"gguf": "adapter.gguf", "compressed-tensors": "compressed-tensors/adapter/adapter_model.safetensors"}


@pytest.mark.parametrize(("target", "budget"), BUDGETS)
def test_a_run_hands_out_the_adapter_and_counts_it(
    target: str, budget: int, tiny_llama: Path, text_dataset: Path, tmp_path: Path
) -> None:
    config = quick_config(
        tiny_llama, text_dataset, target=target, memory_budget=budget,
        finetune={"recovery": "adapter", "steps": 6, "batch_size": 4, "learning_rate": 0.002,
                  "validation_sequences": 0},
        allocate={"objective": "divergence", "calibration_sequences": 2},
        quantize={"lora_rank": 4, "rank_allocation": "uniform"},
    )  # fmt: skip
    report = compress(config, tmp_path / "out")
    assert (tmp_path / "out" / PLACES[target]).is_file()
    rows = {row.variant: row for row in report.measurements}
    assert "gguf_adapter" not in rows
    assert rows["final"].bytes == rows["mixed"].bytes == report.predicted_bytes <= report.memory_budget
    assert rows["final"].perplexity != rows["mixed"].perplexity
    assert all("adapter" in one.text for one in report.exported[0].snippets)
    kind = load_format(report.exported[0].name)
    assert isinstance(kind.load(tmp_path / "out", "cpu"), PeftModel)
    files = [one for one in report.exported if one.name.startswith("gguf")]
    assert not files or rows["final"].file_bytes == sum(one.bytes for one in files)
    place = tmp_path / "out" / ("model.gguf" if target == "gguf" else target)
    model, _ = load_checkpoint(place)
    assert isinstance(model, PeftModel)
    assert held_bytes(place, model) == report.predicted_bytes

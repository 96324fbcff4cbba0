"""The adapters merged in and quantized again: what is written, and what it is said to cost."""

from __future__ import annotations

import math
import shutil
from pathlib import Path

import pytest
import torch

from qpruner_core import CompressionReport, compress, load_compressed
from qpruner_core.loading import load_mixed_checkpoint
from qpruner_core.mixed.mixed_model import load_mixed_model, read_mixed_config
from tests.core.pipeline.conftest import FinishedRun

IDS = torch.arange(3, 35).unsqueeze(0)


@pytest.fixture(scope="module")
def merged(finished_run: FinishedRun, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, CompressionReport]:
    output = tmp_path_factory.mktemp("merged") / "out"
    for stage in ("prune", "score", "allocate", "quantize", "finetune"):
        shutil.copytree(finished_run.output.with_name("out.work") / stage, output.with_name("out.work") / stage)
    export = finished_run.config.export.model_copy(update={"formats": ("merged_quantized",)})
    return output, compress(finished_run.config.model_copy(update={"export": export}), output)


def test_its_perplexity_is_measured_beside_that_with_adapters_and_it_is_smaller_by_them(
    merged: tuple[Path, CompressionReport],
) -> None:
    output, report = merged
    final, row = report.measurement("final"), report.measurement("merged_quantized")
    assert math.isfinite(row.perplexity)
    assert row.perplexity != final.perplexity
    assert final.bytes - row.bytes == report.predicted_bytes - row.bytes > 0
    assert row.parameters < final.parameters
    card = (output / "README.md").read_text()
    assert f"adapters merged and quantized | {row.bytes} |" in card
    assert 'load_compressed("merged_quantized")' in card


def test_it_loads_without_an_adapter_and_has_what_the_adapter_had_learned(
    merged: tuple[Path, CompressionReport],
) -> None:
    output, _ = merged
    work = output.with_name("out.work")
    assert not (output / "merged_quantized" / "adapter").exists()
    model, _ = load_compressed(output / "merged_quantized")
    final = load_mixed_checkpoint(work / "quantize" / "model", work / "finetune" / "adapter")
    without = load_mixed_model(work / "quantize" / "model")
    with torch.no_grad():
        base = without(IDS).logits.float()
        learned, kept = (its(IDS).logits.float() - base for its in (final, model))
    assert not torch.equal(learned, kept)
    # Rounding again takes much of what little a tiny random model has learned; without the adapters, this would be 0
    assert 0.3 < (kept * learned).sum() / learned.square().sum() < 1.3


def test_its_modules_have_the_precisions_that_were_allocated(merged: tuple[Path, CompressionReport]) -> None:
    output, _ = merged
    mixed = read_mixed_config(output.with_name("out.work") / "quantize" / "model")[1]
    assert read_mixed_config(output / "merged_quantized")[1] == mixed.model_copy(update={"adapters": False})

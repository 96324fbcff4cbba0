"""Whole runs whose pruned shape is known only from the data."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from qpruner_core import CancelToken, CompressionConfig, CompressionReport, compress, estimate
from qpruner_core.errors import BudgetInfeasibleError, CancelledError
from qpruner_core.events import Event, RunWarning, StageFinished
from tests.core.pipeline.conftest import QUICK, FinishedRun, checkpoint_hashes, quick_config
from tests.core.small_models import small_model
from tests.tiny_model import build_tokenizer


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
    assert len(report.widths) == 6 - len(report.pruning.removed_layers)
    assert len(report.groups) == len(report.precisions) == 2 * len(report.widths) + 1
    for checkpoint in ("mixed", "merged"):
        pruned = origin(tmp_path / "out" / checkpoint)
        assert pruned["model"] == tiny_llama.name
        assert pruned["revision"] is None
        assert pruned["removed_layers"] == report.pruning.removed_layers


def test_a_run_ranked_over_all_layers_that_goes_on_after_pruning_ends_the_same(
    tiny_llama: Path, text_dataset: Path, tmp_path: Path
) -> None:
    config = quick_config(tiny_llama, text_dataset, prune=QUICK["prune"] | {"layout": "global"})
    compress(config, tmp_path / "whole")
    prune_only(config, tmp_path / "parted")
    resumed: list[Event] = []
    report = compress(config, tmp_path / "parted", on_event=resumed.append)
    assert [event.stage for event in resumed if isinstance(event, StageFinished) and event.resumed] == ["prune"]
    assert len({widths["intermediate_size"] for widths in report.widths[1:-1]}) > 1
    assert checkpoint_hashes(tmp_path / "parted") == checkpoint_hashes(tmp_path / "whole")


def test_a_model_of_another_name_is_pruned_again_as_its_checkpoint_tells_the_name(
    tiny_llama: Path, text_dataset: Path, tmp_path: Path
) -> None:
    prune_only(quick_config(tiny_llama, text_dataset), tmp_path / "out")
    shutil.copytree(tiny_llama, tmp_path / "renamed")
    prune_only(quick_config(tmp_path / "renamed", text_dataset), tmp_path / "out")
    assert origin(tmp_path / "out.work" / "prune" / "model")["model"] == "renamed"


def test_a_budget_that_the_data_puts_out_of_reach_is_told_with_the_smallest_that_is_not(
    text_dataset: Path, tmp_path: Path
) -> None:
    config = with_budget_for_removing_the_experts(tmp_path / "model", text_dataset)
    with pytest.raises(BudgetInfeasibleError) as caught:
        compress(config, tmp_path / "out")
    assert caught.value.field == "memory_budget"
    assert "prune.layout" in caught.value.remedy
    assert not list((tmp_path / "out.work").iterdir())
    smallest = caught.value.smallest_feasible_bytes
    assert smallest > config.memory_budget
    assert str(smallest) in str(caught.value)
    with pytest.raises(BudgetInfeasibleError):
        compress(config.model_copy(update={"memory_budget": smallest - 1}), tmp_path / "less")
    prune_only(config.model_copy(update={"memory_budget": smallest}), tmp_path / "enough")


def with_budget_for_removing_the_experts(model: Path, dataset: Path) -> CompressionConfig:
    """A run that is to remove one of two layers of as many parameters, by their influence.

    The layer of experts, which stay in 16 bits, would have to go to meet the budget; but the other has no influence.
    """
    tokenizer = build_tokenizer(model)
    dense = small_model(
        "qwen3_moe", dtype=torch.bfloat16, vocab_size=len(tokenizer), num_hidden_layers=4, mlp_only_layers=[2],
        moe_intermediate_size=16, num_experts=6, num_experts_per_tok=6, intermediate_size=6 * 16,
        experts_implementation="grouped_mm",
    )  # fmt: skip
    idle = dense.model.layers[2]
    with torch.no_grad():
        idle.self_attn.o_proj.weight.zero_()
        idle.mlp.down_proj.weight.zero_()
    dense.save_pretrained(model)
    prune = QUICK["prune"] | {"ratio": 0.24, "remove_layers": 1}
    config = quick_config(model, dataset, memory_budget=100_000, sequence_length=32, prune=prune)
    return config.model_copy(update={"memory_budget": estimate(config).smallest_feasible_bytes})


def prune_only(config: CompressionConfig, output: Path) -> list[Event]:
    """Run ``config`` and interrupt it once it has pruned; what it told until then."""
    cancel = CancelToken()
    events: list[Event] = []

    def cancel_after_pruning(event: Event) -> None:
        events.append(event)
        if isinstance(event, StageFinished) and event.stage == "prune":
            cancel.cancel()

    with pytest.raises(CancelledError):
        compress(config, output, on_event=cancel_after_pruning, cancel=cancel)
    assert [path.name for path in output.with_name(f"{output.name}.work").iterdir()] == ["prune"]
    return events


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
    assert pruning.width_multiple == told["width_multiple"] == 8
    assert "MLP widths that were cut are multiples of 8." in card


def test_a_report_without_the_width_multiple_still_parses(finished_run: FinishedRun) -> None:
    old = json.loads(finished_run.report.model_dump_json())
    del old["pruning"]["width_multiple"]
    pruning = CompressionReport.model_validate(old).pruning
    assert pruning is not None
    assert pruning.width_multiple is None


def test_more_pruning_than_asked_for_is_told_with_both_figures(text_dataset: Path, tmp_path: Path) -> None:
    config = with_budget_for_removing_the_experts(tmp_path / "model", text_dataset)
    config = config.model_copy(update={"prune": config.prune.model_copy(update={"attention_unit": "kv_group"})})
    with pytest.raises(BudgetInfeasibleError) as caught:
        compress(config, tmp_path / "out")
    smallest = caught.value.smallest_feasible_bytes
    events = prune_only(config.model_copy(update={"memory_budget": smallest}), tmp_path / "enough")
    record = next(event for event in events if isinstance(event, StageFinished))
    [warning] = [event.message for event in events if isinstance(event, RunWarning)]
    assert "24.00%" in warning
    assert f"{record.summary['removed_fraction']:.2%}" in warning
    assert record.summary["removed_fraction"] > 0.24


@pytest.mark.parametrize(
    ("unit", "groups", "warned"),
    [("query_head", 4, True), ("kv_group", 4, False), ("kv_group", 1, True), ("query_head", 1, False)],
)
def test_an_attention_unit_that_the_model_has_none_of_to_lose_is_told(
    unit: str, groups: int, warned: bool, text_dataset: Path, tmp_path: Path
) -> None:
    tokenizer = build_tokenizer(tmp_path / "model")
    small_model(
        "llama", dtype=torch.bfloat16, vocab_size=len(tokenizer), num_attention_heads=4, num_key_value_heads=groups
    ).save_pretrained(tmp_path / "model")
    prune = QUICK["prune"] | {"attention_unit": unit, "ratio": 0.15}
    config = quick_config(tmp_path / "model", text_dataset, sequence_length=32, prune=prune, memory_budget=1)
    config = config.model_copy(update={"memory_budget": estimate(config).smallest_feasible_bytes})
    events = prune_only(config, tmp_path / "out")
    messages = [event.message for event in events if isinstance(event, RunWarning)]
    assert any("Nothing is removed from attention" in message for message in messages) == warned
    resumed = prune_only(config, tmp_path / "out")
    assert [event.resumed for event in resumed if isinstance(event, StageFinished)] == [True]
    assert [event.message for event in resumed if isinstance(event, RunWarning)] == messages

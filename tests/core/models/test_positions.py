"""How many tokens a model reads, and that no measurement goes beyond."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoConfig, PretrainedConfig

from qpruner_core import parse_config
from qpruner_core.errors import InvalidConfigError
from qpruner_core.evaluate.evaluate_checkpoint import evaluate_checkpoint
from qpruner_core.measure.speed import tokens_per_second
from qpruner_core.models.families import family_names
from qpruner_core.models.positions import most_positions
from qpruner_core.planning import check
from tests.core.small_models import small_model


def config_of(model_type: str, **values: Any) -> PretrainedConfig:
    return AutoConfig.for_model(model_type, **values)


@pytest.mark.parametrize("model_type", sorted(family_names()))
def test_every_familys_number_is_found(model_type: str) -> None:
    name = "n_positions" if model_type == "gpt2" else "max_position_embeddings"
    assert most_positions(config_of(model_type, **{name: 777})) == 777


@pytest.mark.parametrize(
    ("rope", "positions"),
    [
        ({"rope_type": "default", "rope_theta": 1e4}, 4096),
        ({"rope_type": "linear", "rope_theta": 1e4, "factor": 2.0}, 8192),
        ({"rope_type": "dynamic", "rope_theta": 1e4, "factor": 2.5}, 10240),
        ({"rope_type": "yarn", "rope_theta": 1e4, "factor": 4.0}, 16384),
        ({"rope_type": "yarn", "rope_theta": 1e4, "factor": 4.0, "original_max_position_embeddings": 1024}, 4096),
        ({"rope_type": "yarn", "rope_theta": 1e4, "factor": 4.0, "original_max_position_embeddings": 2048}, 8192),
        (
            {"rope_type": "llama3", "rope_theta": 1e4, "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
             "original_max_position_embeddings": 512},
            4096,
        ),
    ],
)  # fmt: skip
def test_scaling_of_rotary_positions_counts(rope: dict[str, Any], positions: int) -> None:
    assert most_positions(config_of("llama", max_position_embeddings=4096, rope_parameters=rope)) == positions


def test_scaling_by_layer_type_is_in_the_number_already() -> None:
    rope = {
        "full_attention": {"rope_type": "linear", "rope_theta": 1e6, "factor": 8.0},
        "sliding_attention": {"rope_type": "default", "rope_theta": 1e4},
    }
    assert most_positions(config_of("gemma3_text", max_position_embeddings=32768, rope_parameters=rope)) == 32768


def test_a_model_without_positions_has_no_limit() -> None:
    config = PretrainedConfig()
    assert most_positions(config) is None


@pytest.mark.parametrize("name", ["gpt2", "opt", "llama"])
def test_speed_is_measured_within_the_positions_whatever_is_asked_for(name: str) -> None:
    model = small_model(name).eval()
    positions = most_positions(model.config)
    assert positions is not None
    longest = []
    generate = model.generate

    def watched(**settings: Any) -> torch.Tensor:
        longest.append(settings["input_ids"].shape[1] + settings["generation_config"].max_new_tokens)
        return generate(**settings)

    model.generate = watched
    assert tokens_per_second(model, torch.arange(3, 19), positions + 5) > 0
    assert tokens_per_second(model, torch.arange(3, 3 + positions), 1) > 0
    assert max(longest) <= positions


def test_windows_longer_than_the_models_positions_are_refused_by_name(tiny_llama: Path, text_dataset: Path) -> None:
    for length, tokens in ((513, 16384), (131072, 16384)):
        with pytest.raises(InvalidConfigError) as caught:
            evaluate_checkpoint(tiny_llama, text_dataset, [], length=length, max_tokens=tokens, max_choices=1)
        assert caught.value.field == "sequence_length"
        assert "512" in caught.value.remedy


def test_tasks_of_one_name_have_results_of_their_own(tiny_llama: Path, text_dataset: Path, tmp_path: Path) -> None:
    tasks = [tmp_path / "a" / "test.jsonl", tmp_path / "b" / "test.jsonl", tmp_path / "other.jsonl"]
    for label, task in enumerate(tasks):
        task.parent.mkdir(exist_ok=True)
        task.write_text(json.dumps({"context": "Once", "choices": [" upon", " xq"], "label": label % 2}) + "\n")
    measured = evaluate_checkpoint(tiny_llama, text_dataset, tasks, length=32, max_tokens=64, max_choices=1)
    names = [str(tasks[0]), str(tasks[1]), "other"]
    assert [key for key in measured if key.endswith(".acc")] == [f"{name}.acc" for name in names]
    assert sum(float(measured[f"{name}.acc"]) for name in names[:2]) == 1


@pytest.mark.parametrize(
    ("settings", "field"),
    [
        ({"sequence_length": 513}, "sequence_length"),
        ({"evaluate": {"generated_tokens": 512}}, "evaluate.generated_tokens"),
    ],
)
def test_a_run_beyond_the_models_positions_is_refused_before_it_starts(
    settings: dict[str, Any], field: str, tiny_llama: Path
) -> None:
    run = {
        "model": str(tiny_llama),
        "dataset": "-",
        "target": "bitsandbytes",
        "memory_budget": "300kB",
        "sequence_length": 64,
    }
    with pytest.raises(InvalidConfigError) as caught:
        check(parse_config(run | settings), check_dataset=False)
    assert caught.value.field == field

"""From a recipe back to its run, and from files of settings to a run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from qpruner_core import compress, parse_config
from qpruner_core.cli import app
from qpruner_core.errors import InvalidConfigError
from qpruner_core.expected_inputs import OtherInputsError
from qpruner_core.recipe_settings import merged, settings_of_recipe, with_recipe
from qpruner_core.run_settings import read_settings, run_settings
from tests.tiny_model import build_tiny_llama, write_text_dataset

RUN: dict[str, Any] = {
    "target": "gguf", "memory_budget": "180kB", "sequence_length": 64,
    "prune": {"ratio": 0.2, "protect_first": 1, "protect_last": 1, "calibration_sequences": 4},
    "allocate": {"trials": 3, "random_seeds": 1, "calibration_sequences": 2},
    "finetune": {"steps": 2}, "evaluate": {"max_tokens": 512, "generated_tokens": 2},
}  # fmt: skip


def test_a_recipe_makes_the_same_bytes_again_and_refuses_another_dataset(
    tmp_path: Path,
) -> None:
    tiny_llama = build_tiny_llama(tmp_path / "model", train_steps=0)
    text_dataset = write_text_dataset(tmp_path / "text.txt")
    first = parse_config(RUN | {"model": str(tiny_llama), "dataset": str(text_dataset)})
    compress(first, tmp_path / "first")
    recipe = tmp_path / "first" / "recipe.json"
    again = parse_config(run_settings(recipe, {}, None))
    assert again.expected.model_digest
    assert again.compute_dtype != "auto"
    compress(again, tmp_path / "again")
    files = [json.loads((tmp_path / name / "recipe.json").read_text())["files"] for name in ("first", "again")]
    assert files[0] == files[1] != []
    assert (tmp_path / "first" / "model.gguf").read_bytes() == (tmp_path / "again" / "model.gguf").read_bytes()
    copy = tmp_path / "copy.txt"
    copy.write_bytes(text_dataset.read_bytes() + b"One more passage.\n")
    other = parse_config(run_settings(recipe, {"dataset": str(copy)}, None))
    with pytest.raises(OtherInputsError, match=r"dataset: .*differs from that of the recipe"):
        compress(other, tmp_path / "other")


def test_settings_of_a_recipe_are_those_of_its_run_with_its_choices_for_auto() -> None:
    config = parse_config({"model": "./m", "dataset": "./d", "memory_budget": "130MB", "preset": "qpruner3"})
    recipe = {
        "config": config.model_dump(mode="json"), "files": [], "machine": {"compute_dtype": "float32"},
        "model": {"digest": "a" * 64}, "dataset": {"sha256": "b" * 64}, "recovery_loss": "distillation",
    }  # fmt: skip
    again = parse_config(settings_of_recipe(recipe))
    expected = {"model_digest": "a" * 64, "dataset_sha256": "b" * 64, "recovery_loss": "distillation"}
    pinned = {"compute_dtype": "float32", "expected": expected}
    assert again.model_dump(mode="json") == config.model_dump(mode="json") | pinned
    other = parse_config(with_recipe({"recipe": recipe, "fit": {"memory": "1GB"}, "finetune": {"steps": 7}}))
    assert (other.memory_budget, other.finetune.steps, other.preset) == (None, 7, "qpruner3")


@pytest.mark.parametrize("recipe", [{}, [], 3, {"config": 1}, {"config": None, "files": []}])
def test_what_is_no_recipe_is_refused(recipe: Any) -> None:
    with pytest.raises(InvalidConfigError) as refused:
        settings_of_recipe(recipe)
    assert refused.value.field == "recipe"


def test_options_win_over_the_file_setting_by_setting(tmp_path: Path) -> None:
    file = tmp_path / "job.yaml"
    file.write_text("model: ./m\ndataset: ./d\nmemory_budget: 130MB\nprune:\n  ratio: 0.2\n  layout: depth\n")
    values = run_settings(file, {"prune.ratio": 0.3, "seed": None, "dataset": "./e"}, ["allocate.trials=7"])
    assert values == {
        "model": "./m", "dataset": "./e", "memory_budget": "130MB", "prune": {"ratio": 0.3, "layout": "depth"},
        "allocate": {"trials": 7},
    }  # fmt: skip
    assert run_settings(file, {"prune.ratio": 0.3}, ['prune={"criterion": "wanda"}'])["prune"] == {
        "ratio": 0.3, "layout": "depth", "criterion": "wanda",
    }  # fmt: skip
    assert merged({"memory_budget": 1}, {"fit": {"memory": 2}}) == {"memory_budget": None, "fit": {"memory": 2}}


def test_a_recipe_keeps_small_numbers_that_yaml_takes_for_text(tmp_path: Path) -> None:
    (tmp_path / "job.json").write_text('{"finetune": {"learning_rate": 1e-4}}')
    assert read_settings(tmp_path / "job.json") == {"finetune": {"learning_rate": 1e-4}}


@pytest.mark.parametrize("text", ["- a\n- b\n", "{", "a: [", "1: 2\n", "", "\x00", "[" * 100_000])
def test_a_file_without_settings_is_named(text: str, tmp_path: Path) -> None:
    (tmp_path / "job.yaml").write_text(text)
    answer = CliRunner().invoke(app, ["compress", "--config", str(tmp_path / "job.yaml"), "--output", "out"])
    assert (answer.exit_code, "--config" in answer.stderr, "job.yaml" in answer.stderr) == (2, True, True)


@pytest.mark.parametrize(("given", "field"), [([], "model"), (["./m"], "dataset")])
def test_a_run_needs_a_model_and_a_dataset(given: list[str], field: str) -> None:
    answer = CliRunner().invoke(app, ["compress", *given, "--output", "out", "--memory-budget", "1MB"])
    assert (answer.exit_code, f"{field}: No {field} is given" in answer.stderr) == (2, True)


@pytest.mark.parametrize(
    "text",
    [
        "seed: 1\nmodel: ./m\nseed: 2\n",
        "prune:\n  ratio: 0.3\nprune:\n  criterion: wanda\n",
        'prune:\n  ratio: 0.3\n  "ratio": 0.4\n',
        '{"seed": 1, "seed": 2}',
        '{"prune": {"ratio": 0.3, "ratio": 0.4}}',
    ],
)
def test_a_setting_that_is_given_twice_is_refused(tmp_path: Path, text: str) -> None:
    file = tmp_path / "job.yaml"
    file.write_text(text)
    with pytest.raises(InvalidConfigError, match="twice") as refused:
        read_settings(file)
    assert refused.value.field == "--config"
    assert "Keep one" in refused.value.remedy
    with pytest.raises(InvalidConfigError, match="twice"):
        run_settings(None, {"model": "./m", "dataset": "./d"}, ['prune={"ratio": 0.3, "ratio": 0.4}'])


def test_a_mapping_may_change_what_it_takes_from_another(tmp_path: Path) -> None:
    file = tmp_path / "job.yaml"
    file.write_text("prune: &one\n  ratio: 0.3\n  layout: depth\nallocate:\n  <<: *one\n  ratio: 0.4\n")
    assert read_settings(file)["allocate"] == {"ratio": 0.4, "layout": "depth"}

"""A preset is what settings are unless they are named."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from qpruner_core.allocate.config import AllocateConfig
from qpruner_core.config import CompressionConfig
from qpruner_core.presets import PRESETS
from qpruner_core.quantize.config import QuantizeConfig

RUN: dict[str, Any] = {"model": "m", "dataset": "d", "target": "bitsandbytes", "memory_budget": 1000}
PAPER = ("llm-pruner", "qpruner1", "qpruner2", "qpruner3")
OF_ALL = {
    "prune.criterion": "taylor_first", "prune.attention_unit": "kv_group", "prune.compensation": "none",
    "prune.protect_first": 4, "prune.protect_last": 2, "prune.calibration_sequences": 10,
    "finetune.loss": "cross_entropy", "finetune.learning_rate": 1e-4, "finetune.warmup_steps": 100,
    "finetune.validation_sequences": 0, "allocate.granularity": "layer", "allocate.embeddings": False,
}  # fmt: skip
"""LLM-Pruner's pruning and recovery (arXiv 2305.11627, and its README), which QPruner (arXiv 2412.11629) shares."""
OF_ONE: dict[str, dict[str, object]] = {
    "llm-pruner": {"allocate.precisions": ("bf16",), "quantize.initialisation": "zero"},
    "qpruner1": {"allocate.precisions": ("nf4",), "allocate.search": "uniform", "quantize.initialisation": "loftq"},
    "qpruner2": {
        "allocate.precisions": ("nf4", "int8"), "allocate.search": "mutual_information", "quantize.int8": "llm_int8",
        "score.information": "kmeans",
    },
    "qpruner3": {
        "allocate.precisions": ("nf4", "int8"), "allocate.search": "bayesian", "allocate.prior": "none",
        "allocate.objective": "recovered", "quantize.rounding": "nearest", "quantize.loftq_iterations": 1,
        "allocate.trials": 40,
    },
}  # fmt: skip


@pytest.mark.parametrize("preset", PAPER)
def test_a_preset_of_the_paper_runs_what_the_paper_says(preset: str) -> None:
    config = CompressionConfig.model_validate(RUN | {"preset": preset})
    expected = OF_ALL | OF_ONE[preset]
    found = {path: getattr(getattr(config, path.split(".")[0]), path.split(".")[1]) for path in expected}
    assert found == expected


def test_every_preset_is_known_here() -> None:
    assert set(PRESETS) == {*PAPER, "best"}


@given(
    preset=st.sampled_from(list(PRESETS)), trials=st.integers(1, 90), rank=st.integers(1, 32), as_models=st.booleans()
)
def test_what_is_set_by_name_wins_also_when_given_as_a_model(
    preset: str, trials: int, rank: int, as_models: bool
) -> None:
    allocate, quantize = {"trials": trials, "precisions": ("int8",)}, {"lora_rank": rank, "initialisation": "qera"}
    named: dict[str, Any] = {"allocate": allocate, "quantize": quantize}
    if as_models:
        named = {"allocate": AllocateConfig(**allocate), "quantize": QuantizeConfig(**quantize)}
    config = CompressionConfig.model_validate(RUN | {"preset": preset} | named)
    assert (config.allocate.trials, config.allocate.precisions) == (trials, ("int8",))
    assert (config.quantize.lora_rank, config.quantize.initialisation) == (rank, "qera")
    kept = PRESETS[preset].get("allocate", {})  # type: ignore[index]
    assert config.allocate.search == kept.get("search", AllocateConfig().search)


@pytest.mark.parametrize("preset", PRESETS)
def test_the_config_of_a_recipe_is_the_config_again(preset: str) -> None:
    config = CompressionConfig.model_validate(RUN | {"preset": preset, "allocate": {"trials": 7}})
    assert CompressionConfig.model_validate(config.model_dump(mode="json")) == config
    assert CompressionConfig.model_validate_json(config.model_dump_json()) == config


def test_best_is_what_every_setting_is_by_itself_and_another_name_is_refused() -> None:
    assert CompressionConfig.model_validate(RUN | {"preset": "best"}) == CompressionConfig.model_validate(RUN)
    with pytest.raises(ValidationError, match="preset"):
        CompressionConfig.model_validate(RUN | {"preset": "qpruner9"})

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
SETTINGS = [
    (preset, stage, name, value)
    for preset, stages in PRESETS.items()
    for stage, settings in stages.items()
    for name, value in settings.items()
]


@pytest.mark.parametrize(("preset", "stage", "name", "value"), SETTINGS)
def test_each_setting_of_a_preset_is_in_force(preset: str, stage: str, name: str, value: object) -> None:
    config = CompressionConfig.model_validate(RUN | {"preset": preset})
    assert getattr(getattr(config, stage), name) == value


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

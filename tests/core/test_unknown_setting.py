"""A setting that does not exist is named, with the one that was probably meant."""

from __future__ import annotations

import pytest

from qpruner_core.config import CompressionConfig, parse_config
from qpruner_core.errors import InvalidConfigError
from qpruner_core.unknown_setting import unknown_setting


@pytest.mark.parametrize(
    ("path", "meant"),
    [
        ("prune.ratoi", "prune.ratio"),
        ("memory_buget", "memory_budget"),
        ("finetune.learning-rate", "finetune.learning_rate"),
        ("alocate.trials", "allocate.trials"),
        ("fit.memroy", "fit.memory"),
    ],
)
def test_a_misspelt_setting_is_answered_with_the_right_one(path: str, meant: str) -> None:
    assert unknown_setting(path, CompressionConfig) == f"Unknown setting `{path}`; did you mean `{meant}`?"


@pytest.mark.parametrize("path", ["zzz", "", "x" * 100_000])
def test_what_resembles_no_setting_is_only_named(path: str) -> None:
    said = unknown_setting(path, CompressionConfig)
    assert said == f"Unknown setting `{path[:100]}`."


def test_a_config_names_the_field_and_the_remedy() -> None:
    with pytest.raises(InvalidConfigError) as caught:
        parse_config({"model": "m", "dataset": "d", "memory_budget": "1MB", "prune": {"ratoi": 0.2}})
    assert caught.value.field == "prune.ratoi"
    assert caught.value.message == "Unknown setting `prune.ratoi`; did you mean `prune.ratio`?"
    assert "job-settings" in caught.value.remedy

from __future__ import annotations

import pytest

from bench.llm_pruner import rounded_down_shape
from bench.recipes import CRITERIA, LAYOUTS, baselines, default_name, recipes
from qpruner_core.models.families import find_family
from qpruner_core.prune.layer_sizes import LayerSizes
from qpruner_core.prune.layouts import plan_shape
from tests.core.small_models import small_config


def test_each_criterion_and_each_layout_is_there_once_beside_the_default() -> None:
    names = [recipe.name for recipe in recipes(CRITERIA, LAYOUTS, cross=False)]

    assert len(names) == len(set(names))
    assert default_name() in names
    for choice in (*CRITERIA, *LAYOUTS):
        assert any(choice in name for name in names)


def test_the_full_cross_has_every_pair() -> None:
    pairs = {(recipe.settings.criterion, recipe.settings.layout) for recipe in recipes(CRITERIA, LAYOUTS, cross=True)}

    assert len(pairs) == len(CRITERIA) * len(LAYOUTS)


@pytest.mark.parametrize("ratio", [0.1, 0.2, 0.3, 0.5])
def test_the_baseline_removes_as_much_as_ours(ratio: float) -> None:
    family = find_family("llama")
    config = small_config("llama", num_hidden_layers=30, intermediate_size=1536, hidden_size=576, head_dim=64,
                          num_attention_heads=9, num_key_value_heads=3)  # fmt: skip
    blocks = LayerSizes.of(config, family)
    group = 64 * 576 * 8  # three query heads and their output columns, a key and a value

    for recipe in baselines(30):
        plan = rounded_down_shape if recipe.rounded_down else plan_shape
        shape = plan(blocks, recipe.settings, ratio)
        assert abs(blocks.removed_fraction(shape) - ratio) * blocks.total <= group
        assert shape[:4] == blocks.widths[:4]
        assert shape[-2:] == blocks.widths[-2:]

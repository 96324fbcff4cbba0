from __future__ import annotations

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from qpruner_core.errors import InvalidConfigError
from qpruner_core.models.families import find_family
from qpruner_core.prune.blocks import Blocks
from qpruner_core.prune.config import PruneConfig
from qpruner_core.prune.plan import plan_widths
from tests.core.small_models import small_config

SETTINGS = PruneConfig(protect_first=1, protect_last=1, width_multiple=8)


def test_protected_layers_keep_their_widths() -> None:
    config = small_config("llama")
    family = find_family("llama")
    widths = plan_widths(config, family, SETTINGS, 0.3)
    dense = family.widths(config)
    assert widths[0] == dense[0]
    assert widths[-1] == dense[-1]
    assert all(width != full for width, full in zip(widths[1:-1], dense[1:-1], strict=True))


@given(ratio=st.floats(0, 0.4), unit=st.sampled_from(["kv_group", "query_head", "none"]))
def test_every_plan_keeps_the_ratio_of_queries_to_key_values_and_the_width_multiple(ratio: float, unit: str) -> None:
    config = small_config("llama")
    settings = SETTINGS.model_copy(update={"attention_unit": unit})
    try:
        widths = plan_widths(config, find_family("llama"), settings, ratio)
    except InvalidConfigError:
        assume(False)  # the ratio would leave a layer without channels
    for width in widths:
        assert width.num_attention_heads % width.num_key_value_heads == 0
        assert width.num_key_value_heads >= 1
        assert width.intermediate_size % 8 == 0
        assert 8 <= width.intermediate_size <= 40


@given(ratio=st.floats(0.01, 0.5))
def test_a_plan_removes_the_ratio_within_one_group_of_each_layer(ratio: float) -> None:
    config = small_config("llama", hidden_size=480, intermediate_size=2048, num_hidden_layers=12)
    family = find_family("llama")
    settings = PruneConfig(protect_first=2, protect_last=2, width_multiple=32)
    widths = plan_widths(config, family, settings, ratio)
    blocks = Blocks.of(config, family)
    one_group = 8 * 3 * 32 * 480 / 2 / blocks.total
    assert abs(blocks.removed_fraction(widths) - ratio) <= one_group + 1e-9


def test_pruning_with_every_layer_protected_is_refused_with_the_setting_at_fault() -> None:
    settings = PruneConfig(protect_first=3, protect_last=2)
    with pytest.raises(InvalidConfigError) as caught:
        plan_widths(small_config("llama"), find_family("llama"), settings, 0.2)
    assert caught.value.field == "prune.protect_first"
    assert caught.value.remedy


def test_a_ratio_of_zero_changes_nothing() -> None:
    config = small_config("qwen2")
    family = find_family("qwen2")
    assert plan_widths(config, family, SETTINGS, 0.0) == family.widths(config)


def test_a_ratio_that_would_empty_a_layer_is_refused_with_the_setting_at_fault() -> None:
    with pytest.raises(InvalidConfigError) as caught:
        plan_widths(small_config("llama"), find_family("llama"), SETTINGS, 0.59)
    assert caught.value.field == "prune.ratio"

"""Laws that hold for every layout, whatever the model, the ratio and the settings."""

from __future__ import annotations

from functools import cache

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from qpruner_core.errors import InvalidConfigError
from qpruner_core.models.families import Unit, find_family
from qpruner_core.models.reshape import Shape, config_with_shape
from qpruner_core.prune.config import PruneConfig
from qpruner_core.prune.importance import LayerImportance
from qpruner_core.prune.layer_sizes import LayerSizes
from qpruner_core.prune.layouts import LAYOUTS, plan_shape
from qpruner_core.prune.layouts.ladder import attention_ladder, mlp_ladder
from qpruner_core.prune.pruning import shape_of_step
from qpruner_core.prune.surgery import kept_units
from tests.core.small_models import small_config

WIDTH_LAYOUTS = ("same_ratio", "global", "stock")
MODELS = (
    ("llama", (("intermediate_size", 100),)),
    (
        "llama",
        (("intermediate_size", 512), ("num_hidden_layers", 9), ("num_attention_heads", 8), ("num_key_value_heads", 8)),
    ),
    ("qwen2", (("intermediate_size", 260), ("num_hidden_layers", 7), ("num_key_value_heads", 1))),
)  # fmt: skip


@cache
def layer_sizes_of(model: int) -> LayerSizes:
    model_type, overrides = MODELS[model]
    return LayerSizes.of(small_config(model_type, **dict(overrides)), find_family(model_type))


def importance_of(layer_sizes: LayerSizes, seed: int) -> list[LayerImportance]:
    generator = torch.Generator().manual_seed(seed)
    return [
        {unit: torch.rand(widths.count(unit), generator=generator, dtype=torch.float64) * scale for unit in sizes}
        for scale, (widths, sizes) in enumerate(
            zip(layer_sizes.widths, layer_sizes.unit_parameters, strict=True), start=1
        )
    ]


def influence_of(layer_sizes: LayerSizes, seed: int) -> list[float]:
    return torch.rand(len(layer_sizes.widths), generator=torch.Generator().manual_seed(seed)).tolist()


def largest_group(layer_sizes: LayerSizes, config: PruneConfig) -> int:
    """Parameters of the largest group that one decision can take."""
    if config.layout == "depth":
        return max(layer_sizes.layer_parameters)
    ladders = [
        make(layer_sizes, layer, config)
        for layer in range(len(layer_sizes.widths))
        for make in (attention_ladder, mlp_ladder)
    ]
    largest = max(b - a for ladder in ladders for a, b in zip(ladder.removed, ladder.removed[1:], strict=False))
    return largest * (len(layer_sizes.widths) if config.layout == "stock" else 1)


@st.composite
def prune_configs(draw: st.DrawFn, layouts: tuple[str, ...] = tuple(LAYOUTS)) -> PruneConfig:
    layout = draw(st.sampled_from(layouts))
    return PruneConfig.model_validate(
        {
            "layout": layout,
            "criterion": draw(st.sampled_from(["taylor_first", "flap"])),
            "remove_layers": 0 if layout == "depth" else draw(st.integers(0, 2)),
            "attention_unit": draw(st.sampled_from(["kv_group", "query_head", "none"])),
            "protect_first": draw(st.integers(0, 2)),
            "protect_last": draw(st.integers(0, 2)),
            "width_multiple": draw(st.sampled_from([1, 8, 32])),
        }
    )


def shape_or_discard(layer_sizes: LayerSizes, config: PruneConfig, ratio: float, seed: int) -> Shape:
    try:
        return plan_shape(layer_sizes, config, ratio, importance_of(layer_sizes, seed), influence_of(layer_sizes, seed))
    except InvalidConfigError:
        assume(False)  # more than these settings leave to remove
        raise


@settings(max_examples=100, deadline=None)
@given(model=st.integers(0, 2), config=prune_configs(), ratio=st.floats(0, 0.6), seed=st.integers(0, 9))
def test_the_removed_fraction_is_within_one_group_of_the_ratio(
    model: int, config: PruneConfig, ratio: float, seed: int
) -> None:
    layer_sizes = layer_sizes_of(model)
    shape = shape_or_discard(layer_sizes, config, ratio, seed)
    group = largest_group(layer_sizes, config) if config.remove_layers == 0 else max(layer_sizes.layer_parameters)
    assert abs(layer_sizes.removed_fraction(shape) - ratio) <= group / layer_sizes.first_total + 1e-9


@settings(max_examples=100, deadline=None)
@given(model=st.integers(0, 2), config=prune_configs(), ratio=st.floats(0, 0.6), seed=st.integers(0, 9))
def test_widths_keep_the_ratio_of_queries_to_key_values_the_multiple_and_the_protected_layers(
    model: int, config: PruneConfig, ratio: float, seed: int
) -> None:
    layer_sizes = layer_sizes_of(model)
    shape = shape_or_discard(layer_sizes, config, ratio, seed)
    assert sum(widths is None for widths in shape) >= config.remove_layers
    for layer, (old, new) in enumerate(zip(layer_sizes.widths, shape, strict=True)):
        protected = layer < config.protect_first or layer >= len(shape) - config.protect_last
        if protected and config.layout != "stock":
            assert new == old
        if new is None:
            continue
        assert new.num_attention_heads % new.num_key_value_heads == 0
        per_group = new.num_attention_heads // new.num_key_value_heads
        if config.attention_unit == "kv_group":
            assert per_group == old.num_attention_heads // old.num_key_value_heads
        else:
            assert new.num_key_value_heads == old.num_key_value_heads
        if config.attention_unit == "none":
            assert new.num_attention_heads == old.num_attention_heads
        assert new.intermediate_size == old.intermediate_size or new.intermediate_size % config.width_multiple == 0
        assert new.intermediate_size >= min(config.width_multiple, old.intermediate_size)


@settings(max_examples=30, deadline=None)
@given(
    model=st.integers(0, 2), config=prune_configs(WIDTH_LAYOUTS), ratio=st.floats(0.05, 0.6),
    steps=st.integers(2, 5), seed=st.integers(0, 9),
)  # fmt: skip
def test_pruning_in_steps_ends_as_pruning_at_once_does_when_importance_does_not_change(
    model: int, config: PruneConfig, ratio: float, steps: int, seed: int
) -> None:
    config = config.model_copy(update={"remove_layers": 0, "criterion": "taylor_first"})
    start = now = layer_sizes_of(model)
    importance = importance_of(start, seed)
    at_once = shape_or_discard(start, config, ratio, seed)
    kept = [{unit: torch.arange(widths.count(unit)) for unit in importance[0]} for widths in start.widths]
    for step in range(1, steps + 1):
        shape = shape_of_step(start, now, config, ratio * step / steps, ratio, importance, None)
        for layer, widths in enumerate(shape):
            assert widths is not None
            stay = kept_units(now.widths[layer], widths, importance[layer])
            kept[layer] = {unit: places[stay[unit]] for unit, places in kept[layer].items()}
            importance[layer] = {unit: scores[stay[unit]] for unit, scores in importance[layer].items()}
        now = now.after(shape)
    assert now.widths == at_once
    for layer, whole in enumerate(importance_of(start, seed)):
        assert at_once[layer] is not None
        direct = kept_units(start.widths[layer], now.widths[layer], whole)
        assert all(torch.equal(direct[unit], kept[layer][unit]) for unit in direct)


@settings(max_examples=30, deadline=None)
@given(ratio=st.floats(0.05, 0.6), seed=st.integers(0, 9))
def test_layers_removed_in_steps_are_those_removed_at_once(ratio: float, seed: int) -> None:
    config = PruneConfig(layout="depth", protect_first=1, protect_last=1)
    now = layer_sizes_of(1)
    influence = influence_of(now, seed)
    at_once = shape_or_discard(now, config, ratio, seed)
    for step in range(1, 4):
        now = now.after(plan_shape(now, config, ratio * step / 3, None, [influence[index] for index in now.indices]))
    assert now.indices == [layer for layer, widths in enumerate(at_once) if widths is not None]


@settings(max_examples=30, deadline=None)
@given(ratio=st.floats(0.05, 0.6), unit=st.sampled_from(["kv_group", "none"]), model=st.integers(0, 2))
def test_the_stock_layout_needs_no_code_of_ours(ratio: float, unit: str, model: int) -> None:
    layer_sizes = layer_sizes_of(model)
    config = PruneConfig.model_validate({"layout": "stock", "attention_unit": unit, "width_multiple": 8})
    shape = shape_or_discard(layer_sizes, config, ratio, 0)
    assert config_with_shape(layer_sizes.config, layer_sizes.family, shape).model_type == layer_sizes.family.model_type


def test_attention_and_mlp_lose_the_same_share_over_all_layers() -> None:
    layer_sizes = layer_sizes_of(1)
    config = PruneConfig(attention_unit="kv_group", protect_first=1, protect_last=1, width_multiple=8)
    shape = plan_shape(layer_sizes, config, 0.3)
    share = 0.3 * 9 / 7
    groups = sum(widths.num_key_value_heads for widths in shape[1:-1] if widths)
    channels = sum(widths.intermediate_size for widths in shape[1:-1] if widths)
    assert groups == round(7 * 8 * (1 - share))
    assert channels / (7 * 512) == pytest.approx(1 - share, abs=0.01)


def test_a_global_ranking_takes_the_least_important_units_wherever_they_are() -> None:
    layer_sizes = layer_sizes_of(1)
    importance = importance_of(layer_sizes, 0)  # grows from layer to layer
    shape = plan_shape(
        layer_sizes, PruneConfig(layout="global", protect_first=0, protect_last=0, width_multiple=8), 0.3, importance
    )
    removed, kept = [], []
    for scores, widths in zip(importance, shape, strict=True):
        assert widths
        groups = scores[Unit.CHANNEL].sort().values.view(-1, 8).sum(dim=1).tolist()
        gone = len(groups) - widths.intermediate_size // 8
        removed += groups[:gone]
        kept += groups[gone:-1]  # the last one stays however unimportant it is
    assert max(removed) < min(kept)
    assert sum(widths.intermediate_size for widths in shape[:3] if widths) < 3 * 512 / 2


def test_a_more_important_kind_of_unit_stays_in_a_global_ranking() -> None:
    layer_sizes = layer_sizes_of(1)
    importance = importance_of(layer_sizes, 0)
    for layer in importance:
        layer[Unit.KEY_VALUE_HEAD] += 1e6
    config = PruneConfig(layout="global", attention_unit="kv_group", protect_first=0, protect_last=0)
    shape = plan_shape(layer_sizes, config, 0.3, importance)
    assert [widths.num_key_value_heads for widths in shape if widths] == [8] * 9


def test_depth_removes_the_layers_of_least_influence_that_are_not_protected() -> None:
    config = PruneConfig(layout="depth", protect_first=1, protect_last=1)
    influence = [0.0, 0.5, 0.1, 0.6, 0.2, 0.7, 0.8, 0.9, 0.0]
    shape = plan_shape(layer_sizes_of(1), config, 2 / 9, None, influence)
    assert [layer for layer, widths in enumerate(shape) if widths is None] == [2, 4]


def test_protected_layers_stay_the_same_ones_after_others_are_gone() -> None:
    config = PruneConfig(layout="depth", protect_first=2, protect_last=2)
    layer_sizes = layer_sizes_of(1)
    left = layer_sizes.after(plan_shape(layer_sizes, config, 3 / 9, None, [0.1] * 9))
    assert left.indices == [0, 1, 5, 6, 7, 8]
    assert left.unprotected(2, 2) == [2, 3]
    assert left.removed_fraction() == pytest.approx(3 / 9)


@pytest.mark.parametrize(
    ("given_settings", "ratio", "field"),
    [
        ({"protect_first": 5, "protect_last": 4}, 0.2, "prune.protect_first"),
        ({"protect_first": 3, "protect_last": 2}, 0.7, "prune.ratio"),
        ({"layout": "depth", "remove_layers": 1}, 0.2, "prune.remove_layers"),
        ({"layout": "depth", "compensation": "bias"}, 0.2, "prune.compensation"),
        ({"layout": "depth"}, 0.9, "prune.ratio"),
        ({"layout": "stock", "compensation": "bias"}, 0.2, "prune.compensation"),
        ({"layout": "stock", "attention_unit": "none"}, 0.9, "prune.ratio"),
        ({"remove_layers": 4}, 0.1, "prune.remove_layers"),
        ({"remove_layers": 5}, 0.6, "prune.remove_layers"),
    ],
)
def test_what_cannot_be_is_refused_with_the_setting_at_fault(
    given_settings: dict[str, object], ratio: float, field: str
) -> None:
    with pytest.raises(InvalidConfigError) as caught:
        plan_shape(layer_sizes_of(1), PruneConfig.model_validate(given_settings), ratio)
    assert caught.value.field == field
    assert caught.value.remedy


def test_query_heads_that_no_stock_config_can_say_are_refused() -> None:
    layer_sizes = LayerSizes.of(
        small_config("falcon"), find_family("falcon")
    )  # its code divides hidden_size by the heads
    config = PruneConfig(layout="stock", attention_unit="query_head", width_multiple=8)
    with pytest.raises(InvalidConfigError) as caught:
        plan_shape(layer_sizes, config, 0.2)
    assert caught.value.field == "prune.attention_unit"


@pytest.mark.parametrize("output_bias", [False, True])
def test_the_stock_layout_refuses_a_model_that_needs_our_code_already(output_bias: bool) -> None:
    dense = LayerSizes.of(small_config("gpt2"), find_family("gpt2"))  # its code divides n_embd by the heads
    heads = 6 if output_bias else 5
    narrow = dense.widths[0].model_copy(update={"num_attention_heads": heads, "num_key_value_heads": heads})
    ours = config_with_shape(dense.config, dense.family, [narrow] * 5, output_bias=output_bias)
    layer_sizes = LayerSizes.of(ours, dense.family)
    with pytest.raises(InvalidConfigError) as caught:
        plan_shape(layer_sizes, PruneConfig(layout="stock", width_multiple=8), 0.2)
    assert caught.value.field == "prune.layout"


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_ratio_of_zero_changes_nothing(layout: str) -> None:
    layer_sizes = layer_sizes_of(0)
    assert (
        plan_shape(layer_sizes, PruneConfig.model_validate({"layout": layout}), 0.0, importance_of(layer_sizes, 0))
        == layer_sizes.widths
    )

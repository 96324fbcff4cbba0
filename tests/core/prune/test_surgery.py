"""Which units stay. That a cut model computes as it should: ``tests/core/models/families``, for every family."""

from __future__ import annotations

import torch

from qpruner_core.models.families import LayerWidths, Unit, find_family
from qpruner_core.prune.surgery import kept_units, prune_model
from tests.core.prune.units import random_importance
from tests.core.small_models import small_model


def test_equal_importance_always_keeps_the_first_units() -> None:
    same = {Unit.CHANNEL: torch.ones(10), Unit.QUERY_HEAD: torch.ones(6), Unit.KEY_VALUE_HEAD: torch.ones(3)}
    old = LayerWidths(num_attention_heads=6, num_key_value_heads=3, intermediate_size=10)
    new = LayerWidths(num_attention_heads=4, num_key_value_heads=2, intermediate_size=4)
    kept = kept_units(old, new, same)
    assert kept[Unit.CHANNEL].tolist() == [0, 1, 2, 3]
    assert kept[Unit.QUERY_HEAD].tolist() == [0, 1, 2, 3]
    assert kept[Unit.KEY_VALUE_HEAD].tolist() == [0, 1]


def test_the_most_important_units_stay_in_their_old_order() -> None:
    importance = {
        Unit.CHANNEL: torch.tensor([3.0, 9.0, 1.0, 7.0]),
        Unit.QUERY_HEAD: torch.tensor([5.0, 1.0, 0.0, 2.0, 1.0, 1.0]),
        Unit.KEY_VALUE_HEAD: torch.tensor([0.0, 0.5, 9.0]),
    }
    old = LayerWidths(num_attention_heads=6, num_key_value_heads=3, intermediate_size=4)
    groups = kept_units(old, LayerWidths(num_attention_heads=4, num_key_value_heads=2, intermediate_size=2), importance)
    assert groups[Unit.CHANNEL].tolist() == [1, 3]
    assert groups[Unit.KEY_VALUE_HEAD].tolist() == [0, 2]
    assert groups[Unit.QUERY_HEAD].tolist() == [0, 1, 4, 5]
    heads = kept_units(old, LayerWidths(num_attention_heads=3, num_key_value_heads=3, intermediate_size=4), importance)
    assert heads[Unit.KEY_VALUE_HEAD].tolist() == [0, 1, 2]
    assert heads[Unit.QUERY_HEAD].tolist() == [0, 3, 4]


def test_what_is_not_cut_is_shared_with_the_dense_model() -> None:
    model = small_model("llama")
    family = find_family("llama")
    width = LayerWidths(num_attention_heads=6, num_key_value_heads=3, intermediate_size=24)
    small = prune_model(model, family, [width] * 5, random_importance(model, family))
    layer, dense = family.decoder_layers(small)[0], family.decoder_layers(model)[0]
    path = family.attention_output
    assert layer.get_submodule(path).weight.data_ptr() == dense.get_submodule(path).weight.data_ptr()
    assert layer.get_submodule(family.down).weight.shape == (48, 24)

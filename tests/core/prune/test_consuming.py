from __future__ import annotations

import copy

import pytest
import torch

from qpruner_core.models.families import LayerWidths, find_family
from qpruner_core.models.reshape import Shape
from qpruner_core.prune.surgery import prune_model
from tests.core.prune.units import random_importance
from tests.core.small_models import small_model

NARROW = LayerWidths(num_attention_heads=4, num_key_value_heads=2, intermediate_size=24)
FULL = LayerWidths(num_attention_heads=6, num_key_value_heads=3, intermediate_size=40)
SHAPE: Shape = [FULL, NARROW, None, NARROW, FULL]


@pytest.mark.parametrize("tied", [False, True])
def test_a_model_that_is_consumed_gives_the_same_and_keeps_nothing_of_its_layers(tied: bool) -> None:
    model = small_model("llama", tie_word_embeddings=tied)
    family = find_family("llama")
    importance = random_importance(model, family)
    expected = prune_model(copy.deepcopy(model), family, SHAPE, importance)
    actual = prune_model(model, family, SHAPE, importance, consume=True)
    for (name, tensor), (other, same) in zip(expected.named_parameters(), actual.named_parameters(), strict=True):
        assert name == other
        assert torch.equal(tensor, same)
    ids = torch.arange(12).unsqueeze(0)
    with torch.no_grad():
        assert torch.equal(actual(ids).logits, expected(ids).logits)
    assert all(tensor.numel() == 0 for layer in family.decoder_layers(model) for tensor in layer.parameters())


def test_a_model_that_is_not_consumed_stays_as_it_was() -> None:
    model = small_model("llama")
    before = copy.deepcopy(model)
    family = find_family("llama")
    prune_model(model, family, SHAPE, random_importance(model, family))
    for tensor, same in zip(before.parameters(), model.parameters(), strict=True):
        assert torch.equal(tensor, same)

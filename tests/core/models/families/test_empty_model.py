from __future__ import annotations

import copy

import pytest
import torch
from transformers import AutoModelForCausalLM

from qpruner_core.models.families import family_names, find_family, register_families
from qpruner_core.models.reshape import config_with_shape, empty_model, shapes_only
from tests.core.models.families.shapes import uneven_shape
from tests.core.small_models import small_config


@pytest.mark.parametrize("model_type", family_names())
def test_an_empty_model_has_the_parameters_without_memory_and_the_buffers_of_an_initialised_one(
    model_type: str,
) -> None:
    register_families()
    config, family = small_config(model_type), find_family(model_type)
    for shaped in (config, config_with_shape(config, family, uneven_shape(family, config))):
        random_state = torch.random.get_rng_state()
        empty = empty_model(shaped)
        assert torch.equal(torch.random.get_rng_state(), random_state)
        initialised = AutoModelForCausalLM.from_config(shaped, dtype=torch.bfloat16)
        found, expected = dict(empty.named_parameters()), dict(initialised.named_parameters())
        assert {name: (one.shape, one.dtype) for name, one in found.items()} == {
            name: (one.shape, one.dtype) for name, one in expected.items()
        }
        assert all(parameter.is_meta for parameter in found.values())
        buffers = dict(initialised.named_buffers())
        assert dict(empty.named_buffers()).keys() == buffers.keys()
        for name, buffer in empty.named_buffers():
            assert torch.equal(buffer, buffers[name])
            assert buffer.dtype == buffers[name].dtype


@pytest.mark.parametrize("model_type", family_names())
def test_a_model_of_shapes_is_shared_by_equal_configs_alone(model_type: str) -> None:
    register_families()
    config, family = small_config(model_type), find_family(model_type)
    uneven = config_with_shape(config, family, uneven_shape(family, config))
    fewer = config_with_shape(config, family, family.widths(config)[:-1])
    for shaped in (config, uneven, fewer):
        shared = shapes_only(shaped)
        assert shapes_only(copy.deepcopy(shaped)) is shared
        assert [(name, tuple(one.shape), one.dtype) for name, one in shared.named_parameters()] == [
            (name, tuple(one.shape), one.dtype) for name, one in empty_model(shaped).named_parameters()
        ]
        assert all(one.is_meta for one in (*shared.parameters(), *shared.buffers()))
    assert len({id(shapes_only(shaped)) for shaped in (config, uneven, fewer)}) == 3

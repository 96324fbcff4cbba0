from __future__ import annotations

import pytest
import torch
from torch import nn
from transformers import PreTrainedModel

from bench.peers.stored_bytes import stored_bytes
from qpruner_core.measure.memory import loaded_bytes
from tests.core.small_models import small_model


@pytest.fixture
def model() -> PreTrainedModel:
    return small_model("llama", dtype=torch.bfloat16, tie_word_embeddings=True)


def test_tied_weights_count_once(model: PreTrainedModel) -> None:
    buffers = sum(buffer.numel() * buffer.element_size() for buffer in model.buffers())

    assert stored_bytes(model) == 2 * model.num_parameters() + buffers
    assert stored_bytes(model) == loaded_bytes(model)


def test_tensors_in_attributes_and_in_dictionaries_of_modules_count() -> None:
    module = nn.Module()
    module.kept = torch.zeros(10, dtype=torch.int8)
    module.meta = {"scale": torch.zeros(3), "nested": {"zero": torch.zeros(2)}, "bits": 4}

    assert stored_bytes(module) == 10 + 4 * 3 + 4 * 2


def test_a_view_counts_by_the_storage_that_it_keeps_alive() -> None:
    module = nn.Module()
    module.kept = torch.zeros(100)[:1]

    assert stored_bytes(module) == 400

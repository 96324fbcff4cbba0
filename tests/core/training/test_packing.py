from __future__ import annotations

import pytest
import torch

from qpruner_core.models.families import family_names
from qpruner_core.training.batches import make_batch
from qpruner_core.training.losses import hidden_states
from qpruner_core.training.packing import keeps_examples_apart
from tests.core.small_models import small_model
from tests.core.training.adapters import CPU, example

PACKED = [example(9), example(12, first=30), example(5, first=50)]
MIXING = ("falcon", "opt")
"""Families whose stock code does not give position ids to the mask."""


@pytest.mark.parametrize("model_type", family_names())
def test_packed_examples_are_read_as_if_each_were_alone_or_the_model_is_found_out(model_type: str) -> None:
    model = small_model(model_type)
    assert keeps_examples_apart(model) == (model_type not in MIXING)
    if model_type in MIXING:
        return
    with torch.no_grad():
        packed = hidden_states(model, make_batch([PACKED, [example(20)]], CPU))
        alone = [hidden_states(model, make_batch([[each]], CPU)) for each in (*PACKED, example(20))]
    torch.testing.assert_close(packed, torch.cat(alone), rtol=1e-4, atol=1e-5)  # some soften in float32

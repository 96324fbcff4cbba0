"""Models off the grid compute the same function with ordinary weights."""

from __future__ import annotations

import copy

import pytest
import torch

from bench.off_grid import q4_error, scale_channels
from tests.core.small_models import small_model


@pytest.mark.parametrize("family", ["llama", "gemma3_text"])
@torch.no_grad()
def test_the_function_stays_and_every_linear_module_changes(family: str) -> None:
    model = small_model(family).float().eval()
    scaled = copy.deepcopy(model)
    scale_channels(scaled, seed=3)
    ids = torch.arange(12).unsqueeze(0) % model.config.vocab_size
    torch.testing.assert_close(scaled(input_ids=ids).logits, model(input_ids=ids).logits, rtol=1e-4, atol=1e-4)
    changed = dict(scaled.named_parameters())
    for name, weight in model.named_parameters():
        assert (".layers." in name and name.endswith("proj.weight")) <= (not torch.equal(weight, changed[name])), name


def test_weights_on_a_grid_of_four_bits_are_rounded_without_error_and_scaled_ones_are_not() -> None:
    generator = torch.Generator().manual_seed(0)
    codes = torch.randint(0, 16, (8, 64), generator=generator).float()
    codes[:, ::32], codes[:, 1::32] = 0, 15
    assert q4_error(codes * 0.125 - 1) < 1e-5
    assert q4_error(codes * torch.empty(64).uniform_(0.7, 1.4, generator=generator)) > 0.02

"""The divergence that is reported is that of the definition."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from bench.frontier.predictions import compare, divergence_by_token, keep_predictions
from tests.core.small_models import small_model


def test_the_divergence_of_each_token_is_that_of_the_definition() -> None:
    torch.manual_seed(0)
    dense, other = torch.randn(7, 50) * 3, torch.randn(7, 50) * 3
    found, sums = divergence_by_token(dense, dense.logsumexp(dim=-1), other)
    reference, changed = dense.log_softmax(dim=-1), other.log_softmax(dim=-1)
    torch.testing.assert_close(found, (reference.exp() * (reference - changed)).sum(dim=-1), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(sums, other.logsumexp(dim=-1))


def test_a_model_does_not_differ_from_itself_and_another_does(tmp_path: Path) -> None:
    model = small_model("llama").eval()
    windows = {"prose": torch.randint(0, model.config.vocab_size, (3, 16))}
    kept = keep_predictions(model, windows, tmp_path / "predictions.safetensors")
    same = compare(model, windows, tmp_path / "predictions.safetensors")["prose"]
    assert same.perplexity == pytest.approx(kept["prose"].perplexity)
    assert (same.top1, same.divergence) == (1.0, pytest.approx(0.0, abs=1e-5))
    with torch.no_grad():
        model.get_output_embeddings().weight.mul_(2)
    other = compare(model, windows, tmp_path / "predictions.safetensors")["prose"]
    assert other.divergence > 1e-4
    assert len(other.windows) == 3


def test_the_divergence_of_a_small_change_falls_with_its_square(tmp_path: Path) -> None:
    """In bfloat16 it would not: what is rounded of two models that differ a little is independent."""
    windows = {"prose": torch.randint(0, 97, (2, 16), generator=torch.Generator().manual_seed(0))}
    file = tmp_path / "predictions.safetensors"
    keep_predictions(small_model("llama").eval(), windows, file)
    found = []
    for size in (0.2, 0.02):
        model = small_model("llama").eval().float()
        with torch.no_grad():
            for parameter in model.model.layers.parameters():
                noise = torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1))
                parameter.addcmul_(parameter.abs(), noise, value=size)
        found.append(compare(model, windows, file)["prose"].divergence)
    assert found[0] / found[1] == pytest.approx(100, rel=0.5)

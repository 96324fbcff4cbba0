from __future__ import annotations

import pytest
import torch

from bench.llm_pruner import llm_pruner_importance
from qpruner_core.models.families import Unit, find_family
from tests.core.small_models import small_model


def test_importance_is_weight_times_gradient_of_the_mean_loss_summed_over_the_unit() -> None:
    family = find_family("llama")
    batch = torch.randint(0, 97, (4, 12), generator=torch.Generator().manual_seed(0))

    found = llm_pruner_importance(small_model("llama", dtype=torch.float32), family, batch)

    model = small_model("llama", dtype=torch.float32)
    logits = model(input_ids=batch).logits[:, :-1]
    torch.nn.functional.cross_entropy(logits.reshape(-1, 97), batch[:, 1:].reshape(-1)).backward()
    mlp = family.decoder_layers(model)[3].mlp
    product = {
        name: (linear.weight * linear.weight.grad).abs() for name, linear in mlp.named_children() if name != "act_fn"
    }
    expected = product["gate_proj"].sum(1) + product["up_proj"].sum(1) + product["down_proj"].sum(0)
    assert found[3][Unit.CHANNEL].tolist() == pytest.approx(expected.tolist(), rel=1e-4)


def test_the_model_is_left_without_gradients() -> None:
    model = small_model("llama", dtype=torch.float32)

    llm_pruner_importance(model, find_family("llama"), torch.arange(24).view(2, 12))

    assert all(parameter.grad is None for parameter in model.parameters())

"""Importance of whole experts, against naive references on the small Qwen3-MoE: six experts, two for each token."""

from __future__ import annotations

import pytest
import torch
from torch.nn.functional import linear, silu
from transformers import PreTrainedModel

from qpruner_core.models.families import Unit, family_of
from qpruner_core.prune.criteria import CRITERIA
from tests.core.small_models import small_model

IDS = torch.randint(0, 97, (3, 16), generator=torch.Generator().manual_seed(0))
DENSE = 3


def _ignore(done: int, total: int) -> None:
    pass


def _router_weighted_norms(model: PreTrainedModel, layer: int) -> list[float]:
    """REAP's score, token by token: mean of routing weight times norm of the output over the expert's tokens."""
    mlp = model.model.layers[layer].mlp
    seen: list[torch.Tensor] = []
    handle = mlp.register_forward_pre_hook(lambda _, args: seen.append(args[0][0]))
    with torch.no_grad():
        for sequence in IDS:
            model(input_ids=sequence[None])
    handle.remove()
    found: list[list[float]] = [[] for _ in range(6)]
    for token in torch.cat(seen):
        probabilities = linear(token, mlp.gate.weight.detach()).float().softmax(-1)
        weights, chosen = probabilities.topk(2)
        for weight, expert in zip((weights / weights.sum()).double(), chosen.tolist(), strict=True):
            gate, up = linear(token, mlp.experts.gate_up_proj[expert].detach()).chunk(2)
            output = linear(silu(gate) * up, mlp.experts.down_proj[expert].detach())
            found[expert].append((weight * output.norm()).item())
    return [sum(values) / len(values) if values else 0.0 for values in found]


@pytest.mark.parametrize("name", ["wanda", "flap"])
def test_experts_are_scored_by_routing_weight_times_the_norm_of_their_output(name: str) -> None:
    model = small_model("qwen3_moe")
    importance = CRITERIA[name](model, family_of(model), IDS, _ignore)
    for layer in (0, 2, 4):
        assert importance[layer][Unit.EXPERT].tolist() == pytest.approx(_router_weighted_norms(model, layer), rel=1e-6)
        assert Unit.CHANNEL not in importance[layer]
    assert Unit.EXPERT not in importance[DENSE]
    assert (importance[DENSE][Unit.CHANNEL] > 0).all()


def test_measuring_experts_does_not_change_what_the_model_computes() -> None:
    model = small_model("qwen3_moe")
    outputs: list[torch.Tensor] = []
    handle = model.base_model.register_forward_hook(lambda _, __, output: outputs.append(output[0]))
    CRITERIA["wanda"](model, family_of(model), IDS[:1], _ignore)
    with torch.no_grad():
        model(input_ids=IDS[:1])
    handle.remove()
    assert torch.equal(outputs[0], outputs[1])


def test_an_expert_that_no_token_is_sent_to_has_no_importance() -> None:
    model = small_model("qwen3_moe")
    states: list[torch.Tensor] = []
    mlp = model.model.layers[1].mlp
    handle = mlp.register_forward_pre_hook(lambda _, args: states.append(args[0].flatten(0, 1)))
    with torch.no_grad():
        model(input_ids=IDS)
    handle.remove()
    mlp.gate.weight.data[4] = 0
    mlp.gate.weight.data[[0, 1]] = 100 * states[0].mean(0)  # far above expert 4 for nearly all tokens
    routed = linear(states[0], mlp.gate.weight).topk(2).indices.flatten().bincount(minlength=6)
    importance = CRITERIA["wanda"](model, family_of(model), IDS, _ignore)
    assert [score > 0 for score in importance[1][Unit.EXPERT]] == [count > 0 for count in routed]
    assert (routed == 0).any()


@pytest.mark.parametrize("name", ["taylor_first", "taylor_second", "taylor_mixed", "taylor_vector", "magnitude"])
def test_experts_are_scored_over_all_their_weights_and_their_row_of_the_router(name: str) -> None:
    model = small_model("qwen3_moe")
    importance = CRITERIA[name](model, family_of(model), IDS, _ignore)[2][Unit.EXPERT]
    mlp = model.model.layers[2].mlp
    parts = [mlp.gate.weight, mlp.experts.gate_up_proj, mlp.experts.down_proj]
    gradients = []
    for sequence in IDS:
        model.zero_grad()
        model(input_ids=sequence[None], labels=sequence[None]).loss.backward()
        gradients.append(torch.cat([part.grad.flatten(1) for part in parts], 1))
    weight, gradient = torch.cat([part.detach().flatten(1) for part in parts], 1), torch.stack(gradients)
    curvature = weight**2 * (gradient**2).mean(0) / 2
    expected = {
        "taylor_first": (weight * gradient).abs().mean(0).sum(1),
        "taylor_second": curvature.sum(1),
        "taylor_mixed": (weight * gradient.mean(0) - curvature).abs().sum(1),
        "taylor_vector": (weight * gradient).sum(2).abs().mean(0),
        "magnitude": weight.abs().sum(1),
    }
    torch.testing.assert_close(importance, expected[name], rtol=1e-5, atol=1e-9)  # the router computes in float32

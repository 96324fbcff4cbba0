from __future__ import annotations

import pytest
import torch

from qpruner_core.models.families import Unit, find_family
from qpruner_core.prune.criteria import CRITERIA
from qpruner_core.prune.importance import kv_groups
from tests.core.small_models import small_model


def _with_bias(linear: torch.nn.Linear) -> torch.Tensor:
    product = linear.weight.detach().mul(linear.weight.grad).abs()
    if linear.bias is None:
        return product
    return torch.cat([product, linear.bias.detach().mul(linear.bias.grad).abs().unsqueeze(1)], dim=1)


@pytest.mark.parametrize("model_type", ["llama", "mistral", "qwen2"])
def test_importance_equals_the_sum_of_weight_times_gradient_over_the_group(model_type: str) -> None:
    model = small_model(model_type, dtype=torch.float32)
    family = find_family(model_type)
    ids = torch.randint(0, 97, (3, 16), generator=torch.Generator().manual_seed(0))
    scores = CRITERIA["taylor_first"](model, family, ids, lambda done, total: None)

    reference = small_model(model_type, dtype=torch.float32)
    layer = family.decoder_layers(reference)[2]
    channels, heads, groups = torch.zeros(40), torch.zeros(6), torch.zeros(3)
    for sequence in ids:
        reference.zero_grad()
        reference(input_ids=sequence[None], labels=sequence[None]).loss.backward()
        product = {path: _with_bias(layer.get_submodule(path)) for path in family.linears}
        for channel in range(40):
            channels[channel] += product["mlp.gate_proj"][channel].sum() + product["mlp.up_proj"][channel].sum()
            channels[channel] += product[family.down][:, channel].sum()
        for head in range(6):
            rows = slice(8 * head, 8 * head + 8)
            heads[head] += product["self_attn.q_proj"][rows].sum() + product[family.attention_output][:, rows].sum()
        for group in range(3):
            rows = slice(8 * group, 8 * group + 8)
            groups[group] += product["self_attn.k_proj"][rows].sum() + product["self_attn.v_proj"][rows].sum()
    torch.testing.assert_close(scores[2][Unit.CHANNEL].float(), channels / 3, rtol=1e-4, atol=1e-7)
    torch.testing.assert_close(scores[2][Unit.QUERY_HEAD].float(), heads / 3, rtol=1e-4, atol=1e-7)
    torch.testing.assert_close(scores[2][Unit.KEY_VALUE_HEAD].float(), groups / 3, rtol=1e-4, atol=1e-7)
    torch.testing.assert_close(
        kv_groups(scores[2]).float(), (groups + heads.view(3, 2).sum(1)) / 3, rtol=1e-4, atol=1e-7
    )


def test_a_dead_channel_has_no_importance_and_no_gradient_stays() -> None:
    model = small_model("llama", dtype=torch.float32)
    family = find_family("llama")
    layer = family.decoder_layers(model)[1]
    for path in ("mlp.gate_proj", "mlp.up_proj"):
        layer.get_submodule(path).weight.data[7] = 0
    layer.get_submodule(family.down).weight.data[:, 7] = 0
    scores = CRITERIA["taylor_first"](model, family, torch.arange(16).unsqueeze(0), lambda done, total: None)
    assert scores[1][Unit.CHANNEL][7] == 0
    assert (scores[1][Unit.CHANNEL] > 0).sum() == 39
    assert all(parameter.grad is None for parameter in model.parameters())

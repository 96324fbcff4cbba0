from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn
from transformers import PreTrainedModel

from qpruner_core.models.families import Unit, family_names, find_family
from qpruner_core.prune import backward_memory, gradients
from qpruner_core.prune.backward_memory import next_token_loss, recomputed_layers
from qpruner_core.prune.criteria import CRITERIA
from tests.core.small_models import small_model

IDS = torch.randint(0, 97, (1, 20), generator=torch.Generator().manual_seed(1))


def _gradients(model: PreTrainedModel, loss: Callable[[], torch.Tensor]) -> dict[str, torch.Tensor]:
    model.zero_grad()
    loss().backward()
    return {name: tensor.grad for name, tensor in model.named_parameters() if tensor.grad is not None}


@pytest.mark.parametrize("model_type", family_names())
def test_gradients_are_those_of_the_plain_backward_pass(model_type: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backward_memory, "_TOKENS_AT_ONCE", 7)
    model = small_model(model_type)

    def plain() -> torch.Tensor:
        logits = model(input_ids=IDS, use_cache=False).logits
        return nn.functional.cross_entropy(logits[0, :-1], IDS[0, 1:])

    expected = _gradients(model, plain)
    with recomputed_layers(model):
        actual = _gradients(model, lambda: next_token_loss(model, IDS))
    assert actual.keys() == expected.keys()
    for name, gradient in expected.items():
        torch.testing.assert_close(actual[name], gradient, rtol=0, atol=1e-12)


def test_layers_keep_no_activations_and_are_themselves_again_afterwards() -> None:
    model = small_model("llama", dtype=torch.float32)
    plain, recomputed = _kept_bytes(model, False), _kept_bytes(model, True)
    assert recomputed < 0.3 * plain
    assert all("forward" not in module.__dict__ for module in model.modules())


def _kept_bytes(model: PreTrainedModel, recompute: bool) -> int:
    """Bytes that autograd has saved for the backward pass, weights not counted."""
    parameters = {tensor.untyped_storage().data_ptr() for tensor in model.parameters()}
    kept: dict[int, int] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in parameters:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        if recompute:
            with recomputed_layers(model):
                next_token_loss(model, IDS)
        else:
            model(input_ids=IDS, labels=IDS, use_cache=False)
    return sum(kept.values())


def test_dropout_stays_off_while_layers_are_recomputed() -> None:
    model = small_model("gpt2", resid_pdrop=0.5, attn_pdrop=0.5, embd_pdrop=0.5)
    with recomputed_layers(model):
        losses = {next_token_loss(model, IDS).item() for _ in range(3)}
    assert len(losses) == 1
    assert not model.training


@pytest.mark.parametrize("model_type", ["llama", "phi3", "gpt2", "qwen3_moe"])
@pytest.mark.parametrize("criterion", ["taylor_first", "taylor_vector"])
def test_importance_does_not_depend_on_how_many_rows_are_reduced_at_a_time(
    model_type: str, criterion: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = small_model(model_type)
    scores = []
    for block in (2**22, 100):
        monkeypatch.setattr(gradients, "_BLOCK", block)
        scores.append(CRITERIA[criterion](model, find_family(model_type), IDS.view(2, 10), lambda done, total: None))
    for one, other in zip(*scores, strict=True):
        assert one.keys() == other.keys()
        assert set(one) & {Unit.CHANNEL, Unit.EXPERT}
        for unit, importance in one.items():
            torch.testing.assert_close(other[unit], importance, rtol=1e-9, atol=1e-15)

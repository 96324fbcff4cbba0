"""Losses taken a few positions at a time are those of whole logits, in every family."""

from __future__ import annotations

import pytest
import torch
from torch.nn.functional import cross_entropy, kl_div, log_softmax
from transformers import PreTrainedModel

from qpruner_core.data.tokenization import IGNORED
from qpruner_core.models.families import family_names
from qpruner_core.training import losses
from qpruner_core.training.batches import Batch, make_batch
from qpruner_core.training.losses import Distillation, add_gradient, hidden_states, logits_of
from tests.core.small_models import small_model
from tests.core.training.adapters import CPU, example

ROWS = [[example(60, masked=3)], [example(50, first=20)], [example(60, first=9)]]


def whole_logits(model: PreTrainedModel, batch: Batch) -> torch.Tensor:
    logits: torch.Tensor = model(input_ids=batch.input_ids, use_cache=False).logits
    return logits[batch.targets != IGNORED]


@pytest.mark.parametrize("model_type", family_names())
def test_logits_from_hidden_states_are_the_models_own(model_type: str) -> None:
    model = small_model(model_type)
    batch = make_batch(ROWS, CPU)
    with torch.no_grad():
        found = logits_of(model, hidden_states(model, batch))
        torch.testing.assert_close(found, whole_logits(model, batch).float(), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_the_gradient_in_chunks_is_that_of_the_whole_loss(share: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(losses, "CHUNK", 5)
    student, teacher = small_model("llama", seed=1), small_model("llama", seed=2)
    batch = make_batch(ROWS, CPU)
    targets = batch.targets[batch.targets != IGNORED]
    assert len(targets) > losses.CHUNK  # else nothing is cut
    weight = student.get_parameter("model.layers.2.mlp.down_proj.weight")

    logits, temperature = whole_logits(student, batch), 2.0
    soft = log_softmax(logits / temperature, dim=-1)
    wanted = log_softmax(whole_logits(teacher, batch).detach() / temperature, dim=-1)
    distilled = kl_div(soft, wanted, reduction="sum", log_target=True) * temperature**2
    loss = (share * distilled + (1 - share) * cross_entropy(logits, targets, reduction="sum")) / 100
    (expected,) = torch.autograd.grad(loss, weight)

    student.requires_grad_(False)
    weight.requires_grad_(True)
    distillation = Distillation(teacher, temperature, share) if share else None
    assert add_gradient(student, batch, 100, distillation) == pytest.approx(loss.item(), rel=1e-5)
    torch.testing.assert_close(weight.grad, expected, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("model_type", family_names())
def test_what_is_learned_from_text_is_the_gradient_of_cross_entropy(model_type: str) -> None:
    model = small_model(model_type).requires_grad_(False)
    batch = make_batch(ROWS, CPU)
    inputs = model.get_input_embeddings().weight.requires_grad_(True)
    loss = cross_entropy(whole_logits(model, batch).float(), batch.targets[batch.targets != IGNORED], reduction="sum")
    (expected,) = torch.autograd.grad(loss / 100, inputs)

    assert add_gradient(model, batch, 100, None) == pytest.approx(loss.item() / 100, rel=1e-5)
    torch.testing.assert_close(inputs.grad, expected, rtol=1e-3, atol=1e-6)


def test_a_student_equal_to_its_teacher_has_nothing_to_learn() -> None:
    student, teacher = small_model("llama"), small_model("llama")
    student.requires_grad_(False)
    weight = student.get_parameter("model.layers.0.mlp.up_proj.weight").requires_grad_(True)
    assert add_gradient(student, make_batch(ROWS, CPU), 1, Distillation(teacher)) == pytest.approx(0, abs=1e-4)
    assert weight.grad is not None
    assert weight.grad.abs().max() < 1e-5


def test_prompts_teach_nothing() -> None:
    model = small_model("llama").requires_grad_(False)
    weight = model.get_parameter("model.layers.0.mlp.up_proj.weight").requires_grad_(True)
    assert add_gradient(model, make_batch([[example(8, masked=8)]], CPU), 1, None) == 0
    assert weight.grad is None

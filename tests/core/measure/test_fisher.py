from __future__ import annotations

import pytest
import torch
from torch.nn.functional import log_softmax
from transformers import PreTrainedModel

from qpruner_core.allocate.config import AllocateConfig
from qpruner_core.errors import NotFiniteError
from qpruner_core.fitting.precision_bank import PrecisionBank
from qpruner_core.measure.fisher import _Predictions, fisher_sensitivity
from qpruner_core.mixed.groups import precision_groups
from qpruner_core.models.families import family_of
from qpruner_core.quantize.config import Int8Kind, QuantizeConfig
from qpruner_core.targets.registry import bind_target
from tests.core.small_models import small_model

IDS = torch.randint(0, 97, (2, 16), generator=torch.Generator().manual_seed(0))


def float64_model(name: str, **overrides: bool) -> PreTrainedModel:
    """Of weights that bfloat16 can hold, so that only quantization changes them."""
    return small_model(name, dtype=torch.bfloat16, **overrides).double()


def bank_of(model: PreTrainedModel, settings: AllocateConfig, int8: Int8Kind = "weight_only") -> PrecisionBank:
    target = bind_target("bitsandbytes", QuantizeConfig(int8=int8), settings)
    groups = precision_groups(model, family_of(model), target)
    return PrecisionBank(model, groups, kinds=target.precisions, capacity=10**9)


def sensitivity(model: PreTrainedModel, bank: PrecisionBank, samples: int, seed: int = 0) -> list[dict[str, float]]:
    return fisher_sensitivity(model, bank, IDS, samples=samples, seed=seed, on_piece=lambda *_: None)


@torch.no_grad()
def measured(model: PreTrainedModel, bank: PrecisionBank, index: int, option: str) -> float:
    """The KL divergence in nats per token when group ``index`` alone has ``option``."""
    before = log_softmax(model(IDS).logits, -1)
    bank.apply([option if other == index else "bf16" for other in range(len(bank.groups))])
    model.double()
    after = log_softmax(model(IDS).logits, -1)
    bank.apply(["bf16"] * len(bank.groups))
    return (before.exp() * (before - after)).sum(-1).mean().item()


@pytest.mark.parametrize(("int8", "least"), [("llm_int8", 0.35), ("weight_only", 0.15)])
@pytest.mark.parametrize(("name", "granularity"), [("llama", "layer"), ("gpt2", "module"), ("falcon", "block")])
def test_many_samples_estimate_the_divergence_that_a_small_change_causes(
    name: str, granularity: str, int8: Int8Kind, least: float
) -> None:
    """Where inputs are rounded, tokens err each in its own way; a weight errs at all of them alike, and through
    attention they do more together than each by itself, which is what is estimated."""
    model = float64_model(name)
    settings = AllocateConfig.model_validate({"granularity": granularity, "embeddings": False})
    bank = bank_of(model, settings, int8)
    found = sensitivity(model, bank, samples=80)
    for index in range(0, len(bank.groups), 3):
        assert least < found[index]["int8"] / measured(model, bank, index, "int8") < 1.5
        assert found[index]["bf16"] == 0


@pytest.mark.parametrize(("name", "tied"), [("llama", False), ("gemma3_text", True)])
def test_embeddings_count_with_the_head_that_shares_them(name: str, tied: bool) -> None:
    model = float64_model(name, tie_word_embeddings=tied)
    bank = bank_of(model, AllocateConfig.model_validate({"embeddings": True}))
    found = sensitivity(model, bank, samples=80)
    outside = [index for index, group in enumerate(bank.groups) if group.layer is None]
    assert len(outside) == (1 if tied else 2)
    for index in outside:
        assert 0.35 < found[index]["int8"] / measured(model, bank, index, "int8") < 1.5


def test_the_same_seed_gives_the_same_sensitivities() -> None:
    model = small_model("llama", dtype=torch.bfloat16)
    bank = bank_of(model, AllocateConfig())
    assert sensitivity(model, bank, 2) == sensitivity(model, bank, 2)
    assert sensitivity(model, bank, 2) != sensitivity(model, bank, 2, seed=1)


def test_parameters_are_left_as_they_were() -> None:
    model = small_model("llama", dtype=torch.bfloat16)
    bank = bank_of(model, AllocateConfig())
    before = model(IDS).logits
    required = [parameter.requires_grad for parameter in model.parameters()]
    sensitivity(model, bank, 1)
    assert all(parameter.grad is None for parameter in model.parameters())
    assert [parameter.requires_grad for parameter in model.parameters()] == required
    after = model(IDS).logits
    assert torch.equal(after, before)
    after.sum().backward()  # no hook is left behind
    assert all(parameter.grad is not None for parameter in model.parameters())


def test_a_model_that_predicts_nan_is_told() -> None:
    model = small_model("llama", dtype=torch.bfloat16)
    bank = bank_of(model, AllocateConfig())
    model.get_output_embeddings().weight.data[3] = float("nan")
    with pytest.raises(NotFiniteError):
        sensitivity(model, bank, 1)


def test_labels_are_drawn_from_the_predictions() -> None:
    logits = torch.tensor([[2.0, 0.0, -torch.inf, 1.0]]).expand(1, 4000, 4)
    predictions = _Predictions(logits)
    gradient = predictions.label_gradient(torch.Generator().manual_seed(0))[0]
    probabilities = torch.softmax(logits[0, 0], dim=-1)
    drawn = (probabilities - gradient).round()
    assert torch.equal(drawn.sum(dim=1), torch.ones(4000))
    torch.testing.assert_close(drawn.mean(dim=0), probabilities, rtol=0, atol=0.03)
    assert drawn[:, 2].sum() == 0

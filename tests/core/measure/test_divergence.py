from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch.nn.functional import log_softmax

from qpruner_core.allocate.config import AllocateConfig
from qpruner_core.errors import NotFiniteError
from qpruner_core.fitting.precision_bank import PrecisionBank
from qpruner_core.measure.divergence import Divergence
from qpruner_core.mixed.groups import embedding_names, linear_names, precision_groups
from qpruner_core.mixed.mixed_model import MixedPrecision, encode, load_mixed_model, write_mixed_model
from qpruner_core.models.families import find_family
from qpruner_core.quantize.config import QuantizeConfig
from qpruner_core.targets.registry import bind_target
from tests.core.small_models import small_model

IDS = torch.randint(0, 97, (3, 16), generator=torch.Generator().manual_seed(0))
OUTSIDE = 2  # embeddings and head


def bank(model: torch.nn.Module, capacity: int) -> PrecisionBank:
    target = bind_target("bitsandbytes", QuantizeConfig(), AllocateConfig(granularity="layer"))
    groups = precision_groups(model, find_family("llama"), target)
    return PrecisionBank(model, groups, kinds=target.precisions, capacity=capacity)


@pytest.mark.parametrize("option", ["nf4", "int8"])
def test_a_swapped_layer_says_what_the_quantized_module_says(option: str, tmp_path: Path) -> None:
    source = small_model("llama", dtype=torch.bfloat16)
    family = find_family("llama")
    for name in (option, "bf16"):
        linears = [linear for layer in range(5) for linear in linear_names(source, family, layer)]
        outside = [] if name == "bf16" else embedding_names(source).values()
        precision = MixedPrecision.of(dict.fromkeys(linears, name) | dict.fromkeys(outside, "int8"), QuantizeConfig())
        tensors = encode(source, precision)
        write_mixed_model(tmp_path / name, source.config, precision, tensors, family)
    quantized = load_mixed_model(tmp_path / option)
    plain = load_mixed_model(tmp_path / option, dequantize=True)
    model = load_mixed_model(tmp_path / "bf16")
    bank(model, 10**9).apply([option] * 5 + ["int8"] * OUTSIDE)
    with torch.no_grad():
        expected = quantized(IDS).logits.float()
        assert torch.equal(model(IDS).logits, plain(IDS).logits)
        assert (model(IDS).logits.float() - expected).norm() < 0.02 * expected.norm()


def test_a_model_that_predicts_nan_is_told() -> None:
    model = small_model("llama", dtype=torch.bfloat16)
    divergence = Divergence(model, find_family("llama"), IDS)
    model.get_output_embeddings().weight.data[3] = float("nan")
    with pytest.raises(NotFiniteError):
        divergence()


def test_an_unchanged_model_does_not_diverge() -> None:
    model = small_model("llama", dtype=torch.bfloat16)
    assert Divergence(model, find_family("llama"), IDS)() == pytest.approx(0, abs=1e-7)


def test_divergence_is_the_mean_kullback_leibler_divergence_of_the_predictions() -> None:
    model = small_model("llama", dtype=torch.bfloat16)
    with torch.no_grad():
        before = log_softmax(model(IDS).logits.float(), -1)
        divergence = Divergence(model, find_family("llama"), IDS)
        bank(model, 10**9).apply(["nf4"] * 5 + ["int8"] * OUTSIDE)
        after = log_softmax(model(IDS).logits.float(), -1)
    expected = (before.exp() * (before - after)).sum(-1).mean().item()
    assert divergence() == pytest.approx(expected, rel=0.02)
    assert expected > 0


def test_going_back_to_sixteen_bits_restores_the_model() -> None:
    model = small_model("llama", dtype=torch.bfloat16)
    before = model(IDS).logits
    swapper = bank(model, 10**9)
    swapper.apply(["nf4", "int8", "nf4", "int8", "nf4"] + ["int8"] * OUTSIDE)
    assert not torch.equal(model(IDS).logits, before)
    swapper.apply(["bf16"] * (5 + OUTSIDE))
    assert torch.equal(model(IDS).logits, before)


def test_a_bank_without_room_gives_the_same_values() -> None:
    roomy, tight = small_model("llama", dtype=torch.bfloat16), small_model("llama", dtype=torch.bfloat16)
    for model, capacity in ((roomy, 10**9), (tight, 0)):
        bank(model, capacity).apply(["nf4", "int8", "bf16", "int8", "nf4"] + ["int8"] * OUTSIDE)
    assert torch.equal(roomy(IDS).logits, tight(IDS).logits)


@pytest.mark.parametrize("capacity", [0, 10**8])
def test_telling_what_changed_gives_the_same_divergence(capacity: int) -> None:
    model = small_model("llama", dtype=torch.bfloat16)
    swapper = bank(model, 10**9)
    by_layer, by_state, whole = (Divergence(model, find_family("llama"), IDS, capacity=capacity) for _ in range(3))
    for inside in (
        ["nf4", "bf16", "nf4", "int8", "bf16"],
        ["nf4", "bf16", "nf4", "nf4", "bf16"],
        ["nf4", "bf16", "nf4", "nf4", "int8"],
        ["int8", "bf16", "nf4", "nf4", "int8"],
        ["nf4", "bf16", "nf4", "int8", "bf16"],
    ):
        first = swapper.apply(inside + ["bf16"] * OUTSIDE)
        assert by_layer(first or 0) == by_state(states=swapper.states()) == whole()
    swapper.apply(["nf4", "bf16", "nf4", "int8", "bf16", "int8", "bf16"])
    assert by_layer(0) == by_state(states=swapper.states()) == whole()


def test_fewer_sequences_are_the_first_ones() -> None:
    model = small_model("llama", dtype=torch.bfloat16)
    family = find_family("llama")
    all_three, first_two = Divergence(model, family, IDS), Divergence(model, family, IDS[:2])
    swapper = bank(model, 10**9)
    swapper.apply(["nf4"] * 5 + ["bf16"] * OUTSIDE)
    assert all_three(sequences=2) == first_two() != all_three()
    first = swapper.apply(["nf4", "nf4", "nf4", "int8", "nf4"] + ["bf16"] * OUTSIDE)
    assert all_three(first or 0, sequences=2) == first_two()
    swapper.apply(["nf4", "nf4", "nf4", "int8", "bf16"] + ["bf16"] * OUTSIDE)
    of_all = all_three(4)  # the third sequence was not read since layer 3 changed
    assert of_all == all_three()

"""Experts with linear modules of their own compute what stacked ones do."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from qpruner_core.forward.input_moments import input_moments
from qpruner_core.forward.input_scales import input_scales
from qpruner_core.forward.passes import hooked
from qpruner_core.mixed.groups import is_of_expert, linear_names
from qpruner_core.mixed.mixed_model import MixedPrecision, encode, load_mixed_model, write_mixed_model
from qpruner_core.models.experts import SeparateExperts, every_expert_running, separate_experts, stack_experts
from qpruner_core.models.families import family_of
from qpruner_core.quantize.config import QuantizeConfig
from tests.core.small_models import small_model

IDS = torch.randint(3, 90, (3, 20), generator=torch.Generator().manual_seed(0))
SPARSE, DENSE, EXPERTS = (0, 1, 2, 4), 3, 6


def _ignore(done: int, total: int) -> None:
    pass


def _expert_names(layer: int) -> list[str]:
    parts = ("gate_proj", "up_proj", "down_proj")
    return [f"model.layers.{layer}.mlp.experts.{number}.{part}" for number in range(EXPERTS) for part in parts]


def test_separate_experts_compute_the_same_and_stack_to_the_same_tensors() -> None:
    model = small_model("qwen3_moe")
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with torch.no_grad():
        expected = model(IDS).logits
        apart = separate_experts(model)(IDS).logits
        stacked = stack_experts(model)(IDS).logits
    torch.testing.assert_close(apart, expected, rtol=0, atol=1e-12)
    assert torch.equal(stacked, expected)
    after = model.state_dict()
    assert list(after) == list(before)
    assert all(torch.equal(tensor, after[name]) for name, tensor in before.items())


def test_separate_experts_take_no_memory_of_their_own() -> None:
    model = small_model("qwen3_moe")
    storages = {tensor.untyped_storage().data_ptr() for tensor in model.parameters()}
    separate_experts(model)
    assert {tensor.untyped_storage().data_ptr() for tensor in model.parameters()} == storages


def test_linear_modules_of_a_sparse_layer_are_those_of_its_experts_and_of_a_dense_one_its_own() -> None:
    model = separate_experts(small_model("qwen3_moe"))
    family = family_of(model)
    attention = [f"self_attn.{part}_proj" for part in "qkvo"]
    for layer in SPARSE:
        names = linear_names(model, family, layer)
        assert names == [*(f"model.layers.{layer}.{path}" for path in attention), *_expert_names(layer)]
        assert [name for name in names if is_of_expert(name, family)] == _expert_names(layer)
        assert all(isinstance(model.get_submodule(name), nn.Linear) for name in names)
    assert not any(is_of_expert(name, family) for name in linear_names(model, family, DENSE))


def test_hooks_of_an_expert_without_tokens_are_called_only_where_that_is_asked_for() -> None:
    model = separate_experts(small_model("qwen3_moe"))
    seen: dict[str, int] = {}
    hooks = [
        model.get_submodule(name).register_forward_pre_hook(
            lambda _, args, name=name: seen.update({name: len(args[0])})
        )
        for name in _expert_names(1)
    ]
    one_token = IDS[:1, :1]
    with torch.no_grad(), hooked(hooks):
        expected = model(one_token).logits
        assert len(seen) == 2 * 3
        with every_expert_running(model):
            assert torch.equal(model(one_token).logits, expected)
    assert sorted(seen) == sorted(_expert_names(1))
    assert sorted(seen.values()) == [0] * 12 + [1] * 6
    assert not any(module.all_run for module in model.modules() if isinstance(module, SeparateExperts))


def _routed(model: nn.Module, layer: int) -> torch.Tensor:
    """Inputs of each expert's gate: ``[tokens, hidden]`` of all tokens, and whether each expert gets them."""
    seen: list[tuple[torch.Tensor, torch.Tensor]] = []
    experts = model.get_submodule(f"model.layers.{layer}.mlp.experts")
    hook = experts.register_forward_pre_hook(lambda _, args: seen.append((args[0], args[1])))
    with torch.no_grad(), hooked([hook]):
        for sequence in IDS:
            model(sequence.unsqueeze(0))
    states, chosen = (torch.cat(each) for each in zip(*seen, strict=True))
    return torch.stack([states * (chosen == number).any(1, keepdim=True) for number in range(EXPERTS)])


def test_moments_and_scales_of_an_expert_are_those_of_the_tokens_that_it_gets() -> None:
    model = separate_experts(small_model("qwen3_moe"))
    family = family_of(model)
    router = model.model.layers[2].mlp.gate.weight
    router.data[[1, 4]] = 0  # no token is sent there: the others are far above
    router.data[[0, 2, 3, 5]] = router.data[[0, 2, 3, 5]].sign() * 5
    routed = _routed(model, 2)
    tokens = IDS.numel()
    idle = [number for number in range(EXPERTS) if not routed[number].any()]
    assert len(idle) < EXPERTS
    scales = input_scales(model, family, IDS, _ignore)
    names = [name for name in _expert_names(2) if not name.endswith("down_proj")]
    moments = {name: found for alike, found in input_moments(model, family, names, IDS, _ignore) for name in alike}
    assert list(moments) == names
    for name in names:
        inputs = routed[int(name.split(".")[5])]
        torch.testing.assert_close(
            scales[name].double(), (inputs.square().sum(0) / tokens).sqrt(), rtol=1e-5, atol=1e-7
        )
        torch.testing.assert_close(moments[name].sums.double(), inputs.T @ inputs, rtol=1e-5, atol=1e-5)
        assert moments[name].any == bool(inputs.any())
        partner = name.replace("up_proj", "gate_proj")
        assert moments[name] is moments[partner]


def test_a_mixed_checkpoint_with_stacked_experts_in_16_bits_still_loads(tmp_path: Path) -> None:
    """As releases up to 0.2 wrote it."""
    model = small_model("qwen3_moe", dtype=torch.bfloat16)
    family = family_of(model)
    names = [name for layer in range(5) for name in linear_names(model, family, layer)]
    assert not any(is_of_expert(name, family) for name in names)
    precision = MixedPrecision.of(dict.fromkeys(names, "bf16"), QuantizeConfig())
    write_mixed_model(tmp_path, model.config, precision, encode(model, precision), family)
    loaded = load_mixed_model(tmp_path, dequantize=True)
    assert not any(isinstance(module, SeparateExperts) for module in loaded.modules())
    found = dict(loaded.named_parameters())
    assert all(torch.equal(weight, found[name]) for name, weight in model.named_parameters())

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import PreTrainedModel

from qpruner_core.adapters import (
    adapter_name,
    adapter_tensors,
    attach_adapter,
    require_acting_adapter,
    write_adapter,
)
from qpruner_core.errors import CorruptModelError
from qpruner_core.precisions import Tensors
from qpruner_core.quantize.config import QuantizeConfig
from tests.core.small_models import small_model

IDS = torch.arange(3, 19).unsqueeze(0)
SETTINGS = QuantizeConfig(lora_rank=3, lora_alpha=7)


@pytest.fixture
def model() -> PreTrainedModel:
    return small_model("llama", dtype=torch.bfloat16, num_hidden_layers=12)


def linears(model: PreTrainedModel) -> dict[str, nn.Linear]:
    return {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear) and ".layers." in f".{name}"
    }


def random_adapter(model: PreTrainedModel) -> Tensors:
    """Of ranks 1 to 5 in turn, so that layers 1 and 11 differ."""
    generator = torch.Generator().manual_seed(0)
    tensors: Tensors = {}
    for index, (name, module) in enumerate(linears(model).items()):
        rank = 1 + index % 5
        tensors[adapter_name(name, "A")] = torch.randn(rank, module.in_features, generator=generator) / 10
        tensors[adapter_name(name, "B")] = torch.randn(module.out_features, rank, generator=generator) / 10
    return {name: tensor.to(torch.bfloat16) for name, tensor in tensors.items()}


@pytest.fixture
def directory(model: PreTrainedModel, tmp_path: Path) -> Path:
    targets = sorted({name.rpartition(".")[2] for name in linears(model)})
    write_adapter(tmp_path / "adapter", random_adapter(model), SETTINGS, targets)
    return tmp_path / "adapter"


def logits(model: nn.Module) -> torch.Tensor:
    with torch.no_grad():
        found: torch.Tensor = model(IDS).logits
    return found


def test_adapters_of_different_ranks_load_in_stock_peft_with_one_scaling(
    model: PreTrainedModel, directory: Path
) -> None:
    weights = {name: module.weight.double() for name, module in linears(model).items()}
    tensors = random_adapter(model)
    adapted = PeftModel.from_pretrained(model, str(directory))
    merged = {
        name: weight + 7 / 3 * tensors[adapter_name(name, "B")].double() @ tensors[adapter_name(name, "A")].double()
        for name, weight in weights.items()
    }
    expected = small_model("llama", num_hidden_layers=12)
    for name, weight in merged.items():
        expected.get_submodule(name).weight.data = weight
    assert (logits(adapted.double()) - logits(expected)).abs().max() < 1e-2 * logits(expected).abs().max()
    scalings = {module.scaling["default"] for module in adapted.modules() if hasattr(module, "lora_A")}
    assert all(scaling == pytest.approx(7 / 3) for scaling in scalings)
    assert len({module.r["default"] for module in adapted.modules() if hasattr(module, "lora_A")}) == 5


def test_stock_peft_and_ours_attach_the_same(model: PreTrainedModel, directory: Path) -> None:
    ours = logits(attach_adapter(model, directory))
    stock = PeftModel.from_pretrained(small_model("llama", dtype=torch.bfloat16, num_hidden_layers=12), str(directory))
    assert torch.equal(ours, logits(stock.to(torch.bfloat16)))


def test_uniform_ranks_are_told_once(tmp_path: Path) -> None:
    name = "model.layers.0.self_attn.k_proj"
    tensors = {adapter_name(name, "A"): torch.ones(3, 48), adapter_name(name, "B"): torch.ones(24, 3)}
    write_adapter(tmp_path, tensors, SETTINGS, ["k_proj"])
    config = json.loads((tmp_path / "adapter_config.json").read_text())
    assert (config["r"], config["lora_alpha"]) == (3, 7)
    assert config["rank_pattern"] == config["alpha_pattern"] == {}


def test_an_adapter_that_acts_is_proven_to(model: PreTrainedModel, directory: Path) -> None:
    require_acting_adapter(attach_adapter(model, directory))


def test_an_adapter_that_is_nothing_need_not_act(model: PreTrainedModel, directory: Path) -> None:
    path = directory / "adapter_model.safetensors"
    save_file({n: t * 0 if "_B" in n else t for n, t in load_file(path).items()}, path)
    require_acting_adapter(attach_adapter(model, directory))


def test_an_adapter_too_small_to_show_in_the_logits_is_sound_and_stays_as_it_is(
    model: PreTrainedModel, directory: Path
) -> None:
    path = directory / "adapter_model.safetensors"
    small = {n: t * 1e-12 if "_B" in n else t for n, t in load_file(path).items()}
    save_file(small, path)
    adapted = attach_adapter(model, directory)
    with_it = logits(adapted)
    with adapted.disable_adapter():
        assert torch.equal(logits(adapted), with_it)
    require_acting_adapter(adapted)
    assert all(torch.equal(tensor, small[name]) for name, tensor in adapter_tensors(adapted, torch.bfloat16).items())


def test_an_adapter_that_does_nothing_is_told(model: PreTrainedModel, directory: Path) -> None:
    adapted = attach_adapter(model, directory)
    for module in adapted.modules():
        if hasattr(module, "lora_A"):
            module.set_adapter([])  # as a loader that forgets to activate it would leave it
    with pytest.raises(CorruptModelError, match="no effect") as caught:
        require_acting_adapter(adapted)
    assert caught.value.remedy


@pytest.mark.parametrize(
    "changes",
    [
        {"r": 10**9},
        {"r": 0},
        {"r": "three"},
        {"rank_pattern": {"model.layers.0.mlp.up_proj": 10**9}},
        {"target_modules": "(.*)*x"},
        {"use_dora": True},
        {"use_rslora": True},
        {"megatron_core": "os"},
        {"init_lora_weights": "pissa"},
        {"layer_replication": [[0, 10**6]]},
    ],
)
def test_settings_that_none_of_ours_has_are_refused_before_peft_acts_on_them(
    model: PreTrainedModel, directory: Path, changes: dict[str, object]
) -> None:
    path = directory / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    with pytest.raises(CorruptModelError, match="adapter") as caught:
        attach_adapter(model, directory)
    assert caught.value.remedy


@pytest.mark.parametrize("content", ["", '{"r":', "[]", '{"r": NaN}'])
def test_a_broken_adapter_config_is_named(model: PreTrainedModel, directory: Path, content: str) -> None:
    (directory / "adapter_config.json").write_text(content)
    with pytest.raises(CorruptModelError, match=r"adapter_config\.json"):
        attach_adapter(model, directory)

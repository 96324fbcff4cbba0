"""What was written is read back: configs, weights to the last bit, widths of every layer."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from qpruner_core.models.families import find_family
from qpruner_core.targets.gguf import read_gguf
from tests.gguf_target import AS_LLAMA_CPP, DECI, DIFFERENT, config_of, pruned_config, random_model, write

_IDS = torch.tensor([[index % 90 + 3 for index in range(40)]])


@pytest.mark.parametrize("family", AS_LLAMA_CPP)
def test_weights_and_config_of_a_dense_model_come_back(family: str, tmp_path: Path) -> None:
    model = random_model(config_of(family))
    found = read_gguf(write(model, tmp_path / "model.gguf"), dtype=torch.float32)
    assert found.config.model_type == ("llama" if family == "mistral" else family)
    expected = dict(model.named_parameters())
    assert [name for name, _ in found.named_parameters()] == list(expected)
    for name, parameter in found.named_parameters():
        assert torch.equal(parameter, expected[name]), name
    with torch.no_grad():
        torch.testing.assert_close(found(_IDS).logits, model(_IDS).logits)


@pytest.mark.parametrize("output_bias", [False, True])
@pytest.mark.parametrize("family", DECI)
def test_layers_that_differ_come_back_in_the_family_s_own_class(family: str, output_bias: bool, tmp_path: Path) -> None:
    config = pruned_config(family, DIFFERENT, output_bias=output_bias, **DECI[family])
    model = random_model(config)
    found = read_gguf(write(model, tmp_path / "model.gguf"), dtype=torch.float32)
    kind = "llama" if family == "mistral" else family
    assert type(found).__name__ == find_family(kind).model_class
    assert find_family(kind).widths(found.config) == DIFFERENT
    expected = dict(model.named_parameters())
    assert {name: parameter.shape for name, parameter in found.named_parameters()} == {
        name: parameter.shape for name, parameter in expected.items()
    }
    with torch.no_grad():
        torch.testing.assert_close(found(_IDS).logits, model(_IDS).logits)


def test_the_type_of_the_weights_is_chosen_by_the_reader(tmp_path: Path) -> None:
    model = random_model(config_of("llama"))
    path = write(model, tmp_path / "model.gguf", torch.bfloat16)
    found = read_gguf(path)
    assert {parameter.dtype for parameter in found.parameters()} == {torch.bfloat16}
    assert not any(parameter.requires_grad for parameter in found.parameters())
    expected = model.get_parameter("model.layers.1.self_attn.k_proj.weight")
    assert torch.equal(found.get_parameter("model.layers.1.self_attn.k_proj.weight").float(), expected)

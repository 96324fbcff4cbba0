"""Models that are not causal language models, refused before work with a way out."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModel, AutoModelForSequenceClassification, AutoModelForTokenClassification

from qpruner_core.errors import QPrunerError, UnsafeModelError, UnsupportedArchitectureError
from qpruner_core.evaluate.evaluate_checkpoint import load_checkpoint
from qpruner_core.models import inspect_model, load_model
from qpruner_core.models.families import family_names
from qpruner_core.models.model_config import read_config
from qpruner_core.source_policy import SourcePolicy
from tests.core.small_models import small_config
from tests.hub_server import HubServer

EditConfig = Callable[..., None]


@pytest.mark.parametrize("model_type", family_names())
def test_a_model_with_another_head_or_none_is_refused_in_every_family(model_type: str, tmp_path: Path) -> None:
    config = small_config(model_type)
    classes = [
        kind._model_mapping[type(config)].__name__
        for kind in (AutoModel, AutoModelForSequenceClassification, AutoModelForTokenClassification)
        if type(config) in kind._model_mapping
    ]
    assert classes
    for name in classes:
        (tmp_path / "config.json").write_text(json.dumps(config.to_dict() | {"architectures": [name]}))
        with pytest.raises(UnsupportedArchitectureError, match=name) as caught:
            read_config(tmp_path / "config.json")
        assert "head" in caught.value.remedy


@pytest.mark.parametrize(
    "changes",
    [
        {"is_causal": False},
        {"use_bidirectional_attention": True},
        {"is_encoder_decoder": True},
        {"architectures": ["LlamaForCausalLM", "LlamaModel"]},
        {"architectures": "LlamaModel"},
        {"architectures": [7]},
        {"architectures": ["LlamaForCausalLMEagle3"]},
        {"model_type": "gemma3", "text_config": {"model_type": "gemma3_text"}, "vision_config": {"hidden_size": 8}},
        {"text_config": {"model_type": "llama"}},
    ],
)
def test_a_config_of_another_kind_of_model_is_refused(
    model_copy: Path, policy: SourcePolicy, edit_config: EditConfig, changes: dict[str, Any]
) -> None:
    edit_config(**changes)
    with pytest.raises(UnsupportedArchitectureError) as caught:
        inspect_model(str(model_copy), policy)
    assert caught.value.field == "model"
    assert caught.value.remedy


@pytest.mark.parametrize("architectures", [None, [], ["LLaMAForCausalLM"], ["LlamaForCausalLM"]])
def test_a_causal_language_model_is_known_by_its_name_or_its_tensors(
    model_copy: Path, policy: SourcePolicy, edit_config: EditConfig, architectures: list[str] | None
) -> None:
    edit_config(architectures=architectures)
    assert inspect_model(str(model_copy), policy).config.model_type == "llama"


@pytest.mark.parametrize("name", ["score.weight", "v_head.summary.weight", "vision_tower.patch.weight"])
@pytest.mark.parametrize("architectures", [None, ["LlamaForCausalLM"]])
def test_a_tensor_that_a_causal_language_model_does_not_have_is_named(
    model_copy: Path, policy: SourcePolicy, edit_config: EditConfig, name: str, architectures: list[str] | None
) -> None:
    edit_config(architectures=architectures)
    tensors = load_file(model_copy / "model.safetensors")
    save_file(tensors | {name: torch.ones(2, 64)}, model_copy / "model.safetensors")
    with pytest.raises(QPrunerError, match=name):
        inspect_model(str(model_copy), policy)


def test_weights_of_whole_numbers_are_called_quantized(model_copy: Path, policy: SourcePolicy) -> None:
    tensors = load_file(model_copy / "model.safetensors")
    name = "model.layers.0.mlp.up_proj.weight"
    save_file(tensors | {name: tensors[name].to(torch.int8)}, model_copy / "model.safetensors")
    with pytest.raises(UnsupportedArchitectureError, match="quantized"):
        inspect_model(str(model_copy), policy)


@pytest.mark.parametrize("quantization", [None, {}])
def test_an_empty_quantization_config_is_none(
    model_copy: Path, policy: SourcePolicy, quantization: dict[str, str] | None
) -> None:
    values = json.loads((model_copy / "config.json").read_text())
    (model_copy / "config.json").write_text(json.dumps(values | {"quantization_config": quantization}))
    inspect_model(str(model_copy), policy)
    load_checkpoint(model_copy)


@pytest.mark.parametrize("quantization", [[], "", False, 0])
def test_a_quantization_config_that_is_no_object_is_refused_before_the_tokenizer_reads_it(
    model_copy: Path, policy: SourcePolicy, quantization: object
) -> None:
    values = json.loads((model_copy / "config.json").read_text())
    (model_copy / "config.json").write_text(json.dumps(values | {"quantization_config": quantization}))
    with pytest.raises(UnsupportedArchitectureError, match="quantized already"):
        inspect_model(str(model_copy), policy)


@pytest.mark.parametrize(
    "outputs",
    [{"return_dict": False}, {"torchscript": True}, {"output_hidden_states": True, "output_attentions": True}],
)
def test_what_a_config_says_of_the_form_of_outputs_changes_no_forward_pass(
    model_copy: Path, outputs: dict[str, bool]
) -> None:
    values = json.loads((model_copy / "config.json").read_text())
    (model_copy / "config.json").write_text(json.dumps(values | outputs))
    with torch.no_grad():
        result = load_model(model_copy)(torch.tensor([[1, 2, 3]]))
    assert torch.isfinite(result.logits).all()
    assert result.hidden_states is None
    assert result.attentions is None


def test_an_adapter_on_the_hub_is_refused_also_beside_weights(
    model_copy: Path, hub_server: HubServer, tmp_path: Path
) -> None:
    policy = SourcePolicy(cache_dir=tmp_path / "cache", hub_endpoint=hub_server.url)
    (model_copy / "adapter_config.json").write_text("{}")
    hub_server.add_model("acme/both", model_copy)
    (model_copy / "model.safetensors").rename(model_copy / "adapter_model.safetensors")
    hub_server.add_model("acme/adapter", model_copy)
    for name in ("acme/both", "acme/adapter"):
        with pytest.raises(UnsafeModelError, match="adapter"):
            inspect_model(name, policy)

"""Local directories: what is described, resolved and loaded, and what is refused before that."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from transformers import AutoModelForCausalLM

from qpruner_core.errors import (
    CorruptModelError,
    ModelNotFoundError,
    PathNotAllowedError,
    UnsafeModelError,
    UnsupportedArchitectureError,
    UserError,
)
from qpruner_core.models import inspect_model, load_model, load_tokenizer, resolve_model
from qpruner_core.models.checkpoint_writer import copy_tokenizer
from qpruner_core.models.facts import model_identity
from qpruner_core.models.source import locate_model
from qpruner_core.source_policy import SourcePolicy

EditConfig = Callable[..., None]


def test_a_local_model_is_described_by_its_headers(tiny_llama: Path, policy: SourcePolicy) -> None:
    description = inspect_model(str(tiny_llama), policy)

    tensors = load_file(tiny_llama / "model.safetensors")
    assert description.tensors == {name: (tuple(tensor.shape), "BF16") for name, tensor in tensors.items()}
    assert description.weight_bytes == sum(tensor.nbytes for tensor in tensors.values())
    assert description.config.num_hidden_layers == 6
    assert description.revision is None


def test_a_resolved_model_loads_with_the_logits_of_the_stock_loader(tiny_llama: Path, policy: SourcePolicy) -> None:
    source = resolve_model(str(tiny_llama), policy)
    model, tokenizer = load_model(source.directory), load_tokenizer(source.directory)

    ids = tokenizer("The for statement", return_tensors="pt")["input_ids"]
    stock = AutoModelForCausalLM.from_pretrained(tiny_llama, dtype=torch.bfloat16)
    assert torch.equal(model(ids).logits, stock(ids).logits)
    assert model.dtype == torch.bfloat16
    assert not model.training
    assert model.lm_head.weight is model.model.embed_tokens.weight
    assert tokenizer.chat_template


def test_the_digest_follows_the_content_of_the_files(model_copy: Path, tiny_llama: Path, policy: SourcePolicy) -> None:
    before = resolve_model(str(model_copy), policy).digest
    assert before == resolve_model(str(tiny_llama), policy).digest

    tensors = load_file(model_copy / "model.safetensors")
    tensors["model.norm.weight"] += 1
    save_file(tensors, model_copy / "model.safetensors", metadata={"format": "pt"})
    assert resolve_model(str(model_copy), policy).digest != before


def test_the_digest_follows_additional_chat_templates(model_copy: Path, policy: SourcePolicy) -> None:
    template = model_copy / "additional_chat_templates" / "tools.jinja"
    template.parent.mkdir()
    digests = set()
    for content in ("one", "another"):
        template.write_text(content)
        digests.add(resolve_model(str(model_copy), policy).digest)
    assert len(digests) == 2


def test_a_chat_template_that_links_out_of_the_roots_is_refused(model_copy: Path, tmp_path: Path) -> None:
    (tmp_path / "outside.jinja").write_text("secret")
    (model_copy / "additional_chat_templates").mkdir()
    (model_copy / "additional_chat_templates" / "tools.jinja").symlink_to(tmp_path / "outside.jinja")
    _refused(str(model_copy), SourcePolicy(allowed_roots=(model_copy,)), PathNotAllowedError)


def test_the_origin_names_a_local_model_without_its_path(model_copy: Path, policy: SourcePolicy) -> None:
    assert resolve_model(str(model_copy), policy).origin == {"model": model_copy.name, "revision": None}


def test_a_sharded_model_resolves_and_loads(model_copy: Path, policy: SourcePolicy) -> None:
    model = load_model(model_copy)
    (model_copy / "model.safetensors").unlink()
    model.save_pretrained(model_copy, max_shard_size="100KB")
    assert len(list(model_copy.glob("model-*.safetensors"))) > 2

    source = resolve_model(str(model_copy), policy)
    assert inspect_model(str(model_copy), policy).weight_bytes == 2 * model.num_parameters()
    assert torch.equal(load_model(source.directory).model.norm.weight, model.model.norm.weight)


def test_a_missing_directory_is_not_found(tmp_path: Path, policy: SourcePolicy) -> None:
    error = _refused(str(tmp_path / "nowhere"), policy, ModelNotFoundError)
    assert "config.json" in error.remedy


def test_a_reference_that_is_nothing_is_not_found(policy: SourcePolicy) -> None:
    _refused("no such thing", policy, ModelNotFoundError)


def test_a_directory_outside_the_allowed_roots_is_refused(tiny_llama: Path, tmp_path: Path) -> None:
    policy = SourcePolicy(allowed_roots=(tmp_path,), cache_dir=tmp_path)
    error = _refused(str(tiny_llama), policy, PathNotAllowedError)
    assert "outside" in error.message


def test_a_path_that_climbs_out_of_the_roots_is_refused(model_copy: Path, tmp_path: Path) -> None:
    allowed = tmp_path / "allowed"
    allowed.mkdir()
    _refused(f"{allowed}/../models/llama", SourcePolicy(allowed_roots=(allowed,)), PathNotAllowedError)


def test_a_link_out_of_the_roots_is_refused(tiny_llama: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tiny_llama)
    _refused(str(tmp_path / "link"), SourcePolicy(allowed_roots=(tmp_path,)), PathNotAllowedError)


def test_a_file_that_links_out_of_the_roots_is_refused(model_copy: Path, tiny_llama: Path) -> None:
    (model_copy / "model.safetensors").unlink()
    (model_copy / "model.safetensors").symlink_to(tiny_llama / "model.safetensors")
    _refused(str(model_copy), SourcePolicy(allowed_roots=(model_copy.parent,)), PathNotAllowedError)


@pytest.mark.parametrize("folder", ["", "onnx"])
def test_a_link_to_nothing_is_no_reason_to_refuse_a_model_and_what_it_leads_to_later_is_a_change(
    model_copy: Path, policy: SourcePolicy, folder: str
) -> None:
    (model_copy / folder).mkdir(exist_ok=True)
    target = model_copy / folder / "target.txt"
    (model_copy / folder / "notes.txt").symlink_to(target)
    identity = model_identity(locate_model(str(model_copy), policy))
    assert inspect_model(str(model_copy), policy).config.num_hidden_layers == 6
    target.write_text("there")
    assert model_identity(locate_model(str(model_copy), policy)) != identity


def test_outside_paths_are_refused_alike_whether_or_not_they_exist(tmp_path: Path) -> None:
    policy = SourcePolicy(allowed_roots=(tmp_path,))
    _refused("/etc", policy, PathNotAllowedError)
    _refused("/no/such/path", policy, PathNotAllowedError)


def test_in_the_service_a_directory_does_not_shadow_a_hub_id(
    model_copy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert inspect_model("models/llama", SourcePolicy(allow_hub=False)).weight_bytes > 0
    error = _refused("models/llama", SourcePolicy(allow_hub=False, allowed_roots=(tmp_path,)), PathNotAllowedError)
    assert "hub" in error.message


@pytest.mark.parametrize("kept", [200_000, 20, 7, 0])
def test_truncated_weights_are_refused(model_copy: Path, policy: SourcePolicy, kept: int) -> None:
    path = model_copy / "model.safetensors"
    path.write_bytes(path.read_bytes()[:kept])
    error = _refused(str(model_copy), policy, CorruptModelError)
    assert "model.safetensors" in error.message


@pytest.mark.parametrize("content", [b"\xff" * 4000, (50).to_bytes(8, "little") + b"no json" * 100])
def test_weights_that_are_no_safetensors_are_refused(model_copy: Path, policy: SourcePolicy, content: bytes) -> None:
    (model_copy / "model.safetensors").write_bytes(content)
    _refused(str(model_copy), policy, CorruptModelError)


def test_a_missing_shard_is_named(model_copy: Path, policy: SourcePolicy) -> None:
    model = load_model(model_copy)
    (model_copy / "model.safetensors").unlink()
    model.save_pretrained(model_copy, max_shard_size="100KB")
    shard = sorted(model_copy.glob("model-*.safetensors"))[1]
    shard.unlink()
    assert shard.name in _refused(str(model_copy), policy, CorruptModelError).message


def test_an_index_that_points_outside_the_directory_is_refused(model_copy: Path, policy: SourcePolicy) -> None:
    (model_copy / "model.safetensors").unlink()
    index = {"weight_map": {"model.norm.weight": "../other/model.safetensors"}}
    (model_copy / "model.safetensors.index.json").write_text(json.dumps(index))
    _refused(str(model_copy), policy, CorruptModelError)


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt"])
def test_pickled_weights_are_refused_with_the_way_out(model_copy: Path, policy: SourcePolicy, name: str) -> None:
    (model_copy / "model.safetensors").rename(model_copy / name)
    error = _refused(str(model_copy), policy, UnsafeModelError)
    assert name in error.message
    assert "save_pretrained" in error.remedy


def test_a_model_without_weights_is_not_found(model_copy: Path, policy: SourcePolicy) -> None:
    (model_copy / "model.safetensors").unlink()
    _refused(str(model_copy), policy, ModelNotFoundError)


def test_a_model_with_code_of_its_own_is_refused_and_the_code_is_not_run(
    model_copy: Path, policy: SourcePolicy, edit_config: EditConfig, tmp_path: Path
) -> None:
    (model_copy / "modeling_own.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    auto_map = {"AutoConfig": "modeling_own.OwnConfig", "AutoModelForCausalLM": "modeling_own.OwnModel"}
    edit_config(model_type="own", architectures=["OwnModel"], auto_map=auto_map)
    assert "auto_map" in _refused(str(model_copy), policy, UnsafeModelError).message

    edit_config(model_type="llama")  # a stock type does not make the class a stock one
    _refused(str(model_copy), policy, UnsafeModelError)
    assert not (tmp_path / "ran").exists()


def test_a_stock_model_with_an_auto_map_beside_it_is_taken(
    model_copy: Path, policy: SourcePolicy, edit_config: EditConfig
) -> None:
    edit_config(auto_map={"AutoModelForCausalLM": "modeling_own.OwnModel"})
    assert load_model(resolve_model(str(model_copy), policy).directory).config.model_type == "llama"


def test_an_unsupported_architecture_is_refused(
    model_copy: Path, policy: SourcePolicy, edit_config: EditConfig
) -> None:
    edit_config(model_type="bloom", architectures=["BloomForCausalLM"])
    assert "llama" in _refused(str(model_copy), policy, UnsupportedArchitectureError).remedy


def test_a_quantized_model_is_refused(model_copy: Path, policy: SourcePolicy, edit_config: EditConfig) -> None:
    edit_config(quantization_config={"quant_method": "gptq", "bits": 4})
    assert "gptq" in _refused(str(model_copy), policy, UnsupportedArchitectureError).message


def test_an_adapter_is_refused(model_copy: Path, policy: SourcePolicy) -> None:
    (model_copy / "adapter_config.json").write_text("{}")
    assert "merge" in _refused(str(model_copy), policy, UnsafeModelError).remedy.lower()


@pytest.mark.parametrize(
    "changes",
    [
        {"rms_norm_eps": float("nan")},
        {"rms_norm_eps": float("inf")},
        {"hidden_size": 0},
        {"num_hidden_layers": -1},
        {"num_hidden_layers": 10**9},
        {"vocab_size": "many"},
        {"num_key_value_heads": 3},
        {"hidden_act": "no such function"},
        {"model_type": 7},
    ],
)
def test_a_config_that_no_model_can_have_is_refused(
    model_copy: Path, policy: SourcePolicy, edit_config: EditConfig, changes: dict[str, object]
) -> None:
    edit_config(**changes)
    _refused(str(model_copy), policy, CorruptModelError)


@pytest.mark.parametrize("content", ["", "not json", "[1, 2]", "[" * 100_000])
def test_a_config_that_is_no_object_is_refused(model_copy: Path, policy: SourcePolicy, content: str) -> None:
    (model_copy / "config.json").write_text(content)
    _refused(str(model_copy), policy, CorruptModelError)


def test_a_model_without_a_config_is_refused(model_copy: Path, policy: SourcePolicy) -> None:
    (model_copy / "config.json").unlink()
    _refused(str(model_copy), policy, ModelNotFoundError)


def test_a_model_without_a_tokenizer_is_refused(model_copy: Path, policy: SourcePolicy) -> None:
    (model_copy / "tokenizer.json").unlink()
    assert "tokenizer" in _refused(str(model_copy), policy, ModelNotFoundError).message


def test_a_broken_tokenizer_is_refused_when_loaded(model_copy: Path) -> None:
    (model_copy / "tokenizer.json").write_text("{}")
    with pytest.raises(CorruptModelError, match="tokenizer") as caught:
        load_tokenizer(model_copy)
    assert caught.value.field == "model"


def test_a_missing_tensor_is_named_before_work_and_when_loading(model_copy: Path, policy: SourcePolicy) -> None:
    _rewrite(model_copy, lambda tensors: tensors.pop("model.layers.2.mlp.up_proj.weight"))
    assert "layers.2.mlp.up_proj" in _refused(str(model_copy), policy, CorruptModelError).message
    with pytest.raises(CorruptModelError, match="missing"):
        load_model(model_copy)


def test_a_tensor_of_the_wrong_shape_is_named_before_work_and_when_loading(
    model_copy: Path, policy: SourcePolicy
) -> None:
    _rewrite(model_copy, lambda tensors: tensors.update({"model.norm.weight": torch.ones(63, dtype=torch.bfloat16)}))
    assert "model.norm.weight" in _refused(str(model_copy), policy, CorruptModelError).message
    with pytest.raises(CorruptModelError):
        load_model(model_copy)


def test_layers_that_the_config_does_not_have_are_refused_before_work_and_when_loading(
    model_copy: Path, policy: SourcePolicy, edit_config: EditConfig
) -> None:
    edit_config(num_hidden_layers=5)
    assert "layers.5" in _refused(str(model_copy), policy, CorruptModelError).message
    with pytest.raises(CorruptModelError, match="does not describe"):
        load_model(model_copy)


@pytest.mark.parametrize("name", ["layers.0.mlp.up_proj.weight", "embed_tokens.weight"])
def test_one_parameter_under_two_names_is_refused(model_copy: Path, policy: SourcePolicy, name: str) -> None:
    _rewrite(model_copy, lambda tensors: tensors.update({name: torch.zeros_like(tensors[f"model.{name}"])}))
    message = _refused(str(model_copy), policy, CorruptModelError).message
    assert f"{name!r} and 'model.{name}'" in message
    assert "same parameter" in message


def test_dropout_of_merges_makes_no_difference(model_copy: Path, tiny_llama: Path, tmp_path: Path) -> None:
    text = "Once upon a time, there was a little girl named Lily."
    path = model_copy / "tokenizer.json"
    values = json.loads(path.read_text())
    values["model"]["dropout"] = 0.5
    path.write_text(json.dumps(values))
    copy_tokenizer(model_copy, tmp_path)
    expected = load_tokenizer(tiny_llama)(text)["input_ids"]
    exported = Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    for _ in range(5):
        assert load_tokenizer(model_copy)(text)["input_ids"] == expected
        assert exported.encode(text).ids == expected


def _rewrite(directory: Path, change: Callable[[dict[str, torch.Tensor]], object]) -> None:
    tensors = load_file(directory / "model.safetensors")
    change(tensors)
    save_file(tensors, directory / "model.safetensors", metadata={"format": "pt"})


def _refused(reference: str, policy: SourcePolicy, kind: type[UserError]) -> UserError:
    """The error of both ``inspect_model`` and whatever else would start work, which names field and remedy."""
    with pytest.raises(kind) as caught:
        inspect_model(reference, policy)
    assert type(caught.value) is kind
    assert caught.value.field == "model"
    assert caught.value.remedy
    return caught.value


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
@pytest.mark.parametrize("unreadable", ["config.json", "model.safetensors", "tokenizer.json", "."])
def test_what_may_not_be_read_is_refused(model_copy: Path, policy: SourcePolicy, unreadable: str) -> None:
    path = model_copy / unreadable
    path.chmod(0)
    for look in (inspect_model, resolve_model):
        with pytest.raises(UserError, match=r"[Pp]ermission denied") as caught:
            look(str(model_copy), policy)
        assert caught.value.field == "model"
    path.chmod(0o755)


def test_a_path_that_is_too_long_is_refused(policy: SourcePolicy) -> None:
    for look in (inspect_model, resolve_model):
        with pytest.raises(PathNotAllowedError, match="too long"):
            look("/" + "a" * 300, policy)


def test_a_tokenizer_that_loads_and_cannot_tokenize_is_refused_when_it_is_loaded(model_copy: Path) -> None:
    path = model_copy / "tokenizer_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"model_max_length": "many"}))
    with pytest.raises(CorruptModelError, match="tokenizer"):
        load_tokenizer(model_copy)

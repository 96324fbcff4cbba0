"""Checkpoints as hubs hold them: older and shorter names, constants, one tensor an expert."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import PreTrainedModel

from qpruner_core.errors import CorruptModelError, UnsupportedArchitectureError
from qpruner_core.models.inspect import inspect_model
from qpruner_core.models.load import load_model
from qpruner_core.source_policy import SourcePolicy
from tests.core.small_models import small_config, small_model
from tests.tiny_model import build_tokenizer

WEIGHTS = "model.safetensors"
RENAMED = {
    "falcon": ("transformer.", ""), "gpt2": ("transformer.", ""), "gpt_neox": ("lm_head.", "embed_out."),
    "opt": ("model.decoder.", "decoder."), "qwen3_moe": (".mlp.experts.", ".mlp.experts."),
}  # fmt: skip
CONSTANTS = {
    "gpt2": ("h.0.attn.bias", (1, 1, 64, 64)), "gpt_neox": ("gpt_neox.layers.0.attention.rotary_emb.inv_freq", (4,)),
}  # fmt: skip
OF_A_LAYER = {
    "falcon": "h.1.mlp.dense_h_to_4h.weight", "gpt2": "h.1.mlp.c_fc.weight",
    "gpt_neox": "gpt_neox.layers.1.mlp.dense_h_to_4h.weight", "opt": "decoder.layers.1.fc1.weight",
    "qwen3_moe": "model.layers.1.mlp.experts.3.gate_proj.weight",
}  # fmt: skip
EVERY_NAMING = pytest.mark.parametrize("model_type", sorted(RENAMED))


def write_as_on_the_hub(directory: Path, model_type: str) -> PreTrainedModel:
    """A small model under the names that its family's checkpoints had when they were published."""
    build_tokenizer(directory)
    model = small_model(model_type, dtype=torch.bfloat16, tie_word_embeddings=model_type != "gpt_neox")
    model.save_pretrained(directory)
    tensors = load_file(directory / WEIGHTS)
    old, new = RENAMED[model_type]
    tensors = {name.replace(old, new, 1): tensor for name, tensor in tensors.items()}
    if model_type in CONSTANTS:
        name, shape = CONSTANTS[model_type]
        tensors[name] = torch.ones(shape)
    assert OF_A_LAYER[model_type] in tensors
    save_file(tensors, directory / WEIGHTS, {"format": "pt"})
    return model


def damage(directory: Path, tensors: dict[str, torch.Tensor]) -> None:
    save_file(tensors, directory / WEIGHTS, {"format": "pt"})
    with pytest.raises(CorruptModelError, match="do not fit its config"):
        inspect_model(str(directory), SourcePolicy())
    with pytest.raises(CorruptModelError):
        load_model(directory)


@EVERY_NAMING
def test_a_published_checkpoint_is_accepted_under_its_own_names_and_loads_whole(
    model_type: str, tmp_path: Path
) -> None:
    model = write_as_on_the_hub(tmp_path, model_type)
    description = inspect_model(str(tmp_path), SourcePolicy())
    assert description.weight_bytes == sum(
        tensor.numel() * tensor.element_size() for tensor in load_file(tmp_path / WEIGHTS).values()
    )
    loaded = dict(load_model(tmp_path).named_parameters())
    assert all(torch.equal(tensor, loaded[name]) for name, tensor in model.named_parameters())


@EVERY_NAMING
def test_a_tensor_missing_of_another_shape_or_of_a_layer_too_many_is_refused(model_type: str, tmp_path: Path) -> None:
    write_as_on_the_hub(tmp_path, model_type)
    whole, name = load_file(tmp_path / WEIGHTS), OF_A_LAYER[model_type]
    damage(tmp_path, {other: tensor for other, tensor in whole.items() if other != name})
    damage(tmp_path, whole | {name: torch.cat([whole[name], whole[name][:1]])})
    damage(tmp_path, whole | {name.replace(".1.", ".9.", 1): whole[name].clone()})


@pytest.mark.parametrize(
    ("model_type", "field"),
    [("falcon", "alibi"), ("gpt2", "scale_attn_by_inverse_layer_idx"), ("gpt2", "add_cross_attention")],
)
def test_a_variant_that_cannot_be_pruned_is_refused_by_the_name_of_its_field(
    model_type: str, field: str, tmp_path: Path
) -> None:
    build_tokenizer(tmp_path)
    small_model(model_type).save_pretrained(tmp_path)
    config = small_config(model_type)
    setattr(config, field, True)
    config.save_pretrained(tmp_path)
    with pytest.raises(UnsupportedArchitectureError, match=field):
        inspect_model(str(tmp_path), SourcePolicy())

"""Heads: what the weights hold decides whether they are tied to the embeddings, whatever config.json says."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import PreTrainedModel

from qpruner_core.allocate.config import AllocateConfig
from qpruner_core.errors import CorruptModelError
from qpruner_core.measure.memory import loaded_bytes
from qpruner_core.mixed.memory_model import MemoryModel
from qpruner_core.models import inspect_model, load_model, resolve_model
from qpruner_core.models.checkpoint_writer import write_model
from qpruner_core.models.families import family_of
from qpruner_core.prune.surgery import prune_model
from qpruner_core.quantize.config import QuantizeConfig
from qpruner_core.source_policy import SourcePolicy
from qpruner_core.targets.registry import bind_target
from tests.core.models.families.shapes import uneven_shape
from tests.core.prune.units import random_importance
from tests.core.small_models import small_model
from tests.tiny_model import build_tokenizer

WEIGHTS = "model.safetensors"
IDS = torch.tensor([[5, 17, 3, 60, 22]])
OLD_NAMES = {
    "gpt2": ("transformer.", ""),
    "gpt_neox": ("lm_head.", "embed_out."),
    "opt": ("model.decoder.", "decoder."),
}


def write_both(directory: Path, model_type: str, *, equal: bool, last_row_only: bool = False) -> PreTrainedModel:
    """A model with a head in its file beside the embeddings, and a config that ties them."""
    directory.mkdir(exist_ok=True)
    build_tokenizer(directory)
    model = small_model(model_type, dtype=torch.bfloat16, tie_word_embeddings=False)
    head, embeddings = model.get_output_embeddings().weight.data, model.get_input_embeddings().weight.data
    if equal or last_row_only:
        head.copy_(embeddings)
    if last_row_only:
        head[-2] += 1
    model.config.tie_word_embeddings = False
    model.save_pretrained(directory)
    tensors = load_file(directory / WEIGHTS)
    old, new = OLD_NAMES.get(model_type, ("", ""))
    save_file({name.replace(old, new, 1): tensor for name, tensor in tensors.items()}, directory / WEIGHTS)
    values = json.loads((directory / "config.json").read_text())
    (directory / "config.json").write_text(json.dumps(values | {"tie_word_embeddings": True}))
    return model


def is_tied(model: PreTrainedModel) -> bool:
    return model.get_output_embeddings().weight is model.get_input_embeddings().weight


@pytest.mark.parametrize("model_type", ["falcon", "gemma3_text", "llama", *OLD_NAMES])
def test_a_head_of_its_own_is_kept_from_inspection_to_a_reloaded_pruned_model(model_type: str, tmp_path: Path) -> None:
    written = write_both(tmp_path / "m", model_type, equal=False)
    described = inspect_model(str(tmp_path / "m"), SourcePolicy())
    source = resolve_model(str(tmp_path / "m"), SourcePolicy())
    dense = load_model(source.directory)
    loaded = dict(dense.named_parameters())
    assert all(torch.equal(tensor, loaded[name]) for name, tensor in written.named_parameters())
    family = family_of(dense)
    for config in (described.config, source.dense_config, dense.config):
        assert not config.tie_word_embeddings
        predicted = MemoryModel(config, family, bind_target("bitsandbytes", QuantizeConfig(), AllocateConfig()))
        assert predicted.dense_bytes == loaded_bytes(dense)

    pruned = prune_model(dense, family, uneven_shape(family, dense.config), random_importance(dense, family))
    write_model(pruned, family, tmp_path / "pruned", tokenizer_from=tmp_path / "m")
    reloaded = load_model(tmp_path / "pruned")
    assert torch.equal(reloaded.get_output_embeddings().weight, written.get_output_embeddings().weight)
    with torch.no_grad():
        assert torch.equal(reloaded(IDS).logits, pruned(IDS).logits)


@pytest.mark.parametrize("model_type", ["llama", *OLD_NAMES])
def test_a_head_that_equals_the_embeddings_is_tied(model_type: str, tmp_path: Path) -> None:
    write_both(tmp_path, model_type, equal=True)
    source = resolve_model(str(tmp_path), SourcePolicy())
    assert inspect_model(str(tmp_path), SourcePolicy()).config.tie_word_embeddings
    assert source.dense_config.tie_word_embeddings
    assert is_tied(load_model(tmp_path))


def test_one_row_that_differs_makes_a_head_of_its_own(tmp_path: Path) -> None:
    write_both(tmp_path, "llama", equal=True, last_row_only=True)
    assert not inspect_model(str(tmp_path), SourcePolicy()).config.tie_word_embeddings
    assert not resolve_model(str(tmp_path), SourcePolicy()).dense_config.tie_word_embeddings
    assert not is_tied(load_model(tmp_path))


@pytest.mark.parametrize("model_type", ["llama", "gpt2"])
def test_a_missing_head_that_is_not_tied_is_refused(model_type: str, tmp_path: Path) -> None:
    build_tokenizer(tmp_path)
    small_model(model_type, dtype=torch.bfloat16, tie_word_embeddings=True).save_pretrained(tmp_path)
    values = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(values | {"tie_word_embeddings": False}))
    with pytest.raises(CorruptModelError, match="head") as caught:
        inspect_model(str(tmp_path), SourcePolicy())
    assert "tie_word_embeddings" in caught.value.remedy
    with pytest.raises(CorruptModelError):
        load_model(tmp_path)

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from qpruner_core.errors import CorruptModelError
from qpruner_core.loading import load_compressed
from tests.model_in_memory import IDS, LOGITS_SCRIPT, PATTERN, compress_in_memory


def test_a_reloaded_checkpoint_gives_the_logits_of_the_model_in_memory_in_a_process_of_its_own(
    tiny_llama: Path, tmp_path: Path
) -> None:
    model = compress_in_memory(tiny_llama, tmp_path / "mixed")
    with torch.no_grad():
        expected = model(IDS).logits
        with model.disable_adapter():
            without = model(IDS).logits
    assert not torch.equal(expected, without)  # an adapter that does nothing could not tell
    actual = tmp_path / "actual.pt"
    subprocess.run([sys.executable, "-c", LOGITS_SCRIPT, str(tmp_path / "mixed"), str(actual)], check=True)
    assert torch.equal(torch.load(actual), expected)


def test_a_checkpoint_without_a_tensor_is_refused(tiny_llama: Path, tmp_path: Path) -> None:
    compress_in_memory(tiny_llama, tmp_path / "mixed")
    weights = tmp_path / "mixed" / "model.safetensors"
    tensors = load_file(weights)
    tensors.pop("model.norm.weight")
    save_file(tensors, weights)
    with pytest.raises(CorruptModelError, match=r"model\.norm\.weight"):
        load_compressed(tmp_path / "mixed")


@pytest.mark.parametrize(
    "damage",
    ["no weights", "truncated", "a scale is missing", "a stranger's tensor", "wrong shape", "a stranger's precision",
     "a larger precision than it has", "no adapter",
     "half an adapter", "a config that is a list"],
)  # fmt: skip
def test_a_damaged_checkpoint_is_refused_whatever_is_wrong_with_it(
    damage: str, tiny_llama: Path, tmp_path: Path
) -> None:
    mixed = tmp_path / "mixed"
    compress_in_memory(tiny_llama, mixed)
    weights, adapter, config = (
        mixed / "model.safetensors",
        mixed / "adapter" / "adapter_model.safetensors",
        mixed / "config.json",
    )
    if damage == "no weights":
        weights.unlink()
    elif damage == "truncated":
        weights.write_bytes(weights.read_bytes()[:-100])
    elif damage == "no adapter":
        adapter.unlink()
    elif damage == "half an adapter":
        tensors = load_file(adapter)
        save_file({name: tensors[name] for name in sorted(tensors)[::2]}, adapter)
    elif damage == "a config that is a list":
        config.write_text("[1, 2]")
    elif damage == "a stranger's precision":
        config.write_text(config.read_text().replace('"precisions": {', '"precisions": {"model.norm": "nf4",', 1))
    elif damage == "a larger precision than it has":
        module = '"model.layers.1.mlp.down_proj": '
        assert f'{module}"int8"' in config.read_text()
        config.write_text(config.read_text().replace(f'{module}"int8"', f'{module}"bf16"'))
    else:
        tensors = load_file(weights)
        if damage == "a scale is missing":
            tensors.pop(next(name for name in tensors if name.endswith("SCB")))
        elif damage == "a stranger's tensor":
            tensors["model.norm.surprise"] = torch.zeros(3)
        else:
            tensors["model.norm.weight"] = torch.ones(7)
        save_file(tensors, weights)
    with pytest.raises(CorruptModelError) as caught:
        load_compressed(mixed)
    assert caught.value.remedy


def test_a_directory_that_is_no_mixed_checkpoint_is_refused(tiny_llama: Path) -> None:
    with pytest.raises(CorruptModelError) as caught:
        load_compressed(tiny_llama)
    assert caught.value.remedy


def test_stock_transformers_refuses_the_mixed_checkpoint_rather_than_load_it_wrong(
    tiny_llama: Path, tmp_path: Path
) -> None:
    compress_in_memory(tiny_llama, tmp_path / "mixed")
    stored = json.loads((tmp_path / "mixed" / "config.json").read_text())["quantization_config"]["precisions"]
    assert [stored[f"model.layers.{layer}.mlp.down_proj"] for layer in range(len(PATTERN))] == list(PATTERN)
    with pytest.raises((ValueError, RuntimeError, ImportError)):
        AutoModelForCausalLM.from_pretrained(tmp_path / "mixed")

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from qpruner_core.checkpoint import load_compressed
from qpruner_core.errors import CorruptModelError
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


def test_a_directory_that_is_no_mixed_checkpoint_is_refused(tiny_llama: Path) -> None:
    with pytest.raises(CorruptModelError) as caught:
        load_compressed(tiny_llama)
    assert caught.value.remedy


def test_stock_transformers_refuses_the_mixed_checkpoint_rather_than_load_it_wrong(
    tiny_llama: Path, tmp_path: Path
) -> None:
    compress_in_memory(tiny_llama, tmp_path / "mixed")
    assert json.loads((tmp_path / "mixed" / "config.json").read_text())["quantization_config"]["bits"] == list(PATTERN)
    with pytest.raises((ValueError, RuntimeError, ImportError)):
        AutoModelForCausalLM.from_pretrained(tmp_path / "mixed")

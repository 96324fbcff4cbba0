from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM

from qpruner_core.checkpoint import load_compressed
from qpruner_core.errors import CorruptModelError
from qpruner_core.finetune.batches import Batch
from qpruner_core.finetune.config import FinetuneConfig
from qpruner_core.finetune.training import train_adapter
from qpruner_core.models import load_model
from qpruner_core.models.families import find_family
from qpruner_core.precisions import Tensors, precisions
from qpruner_core.quantize.adapters import adapter_tensors, write_adapter
from qpruner_core.quantize.config import QuantizeConfig
from qpruner_core.quantize.mixed_model import MixedPrecision, linear_names, other_tensors, write_mixed_model

IDS = torch.arange(3, 35).unsqueeze(0)
BITS = (4, 8, 16, 4, 8, 4)


def memory_model_and_checkpoint(source: Path, directory: Path) -> Any:
    """Quantize, adapt and train a model that never leaves memory, then write it."""
    family = find_family("llama")
    model = load_model(source)
    kinds = precisions(True)
    tensors: Tensors = {}
    quantized = set()
    for layer, bits in enumerate(BITS):
        for name in linear_names(family, layer):
            encoded = kinds[bits].encode(model.get_submodule(name).weight.data)
            tensors |= {f"{name}.{key}": value.clone() for key, value in encoded.items()}
            quantized.add(f"{name}.weight")
            model.set_submodule(name, kinds[bits].build(encoded, None))
    tensors |= other_tensors(
        model, {name for name, _ in model.named_parameters() if ".proj" in name or "_proj." in name}
    )
    model.is_loaded_in_4bit = model.is_loaded_in_8bit = True
    targets = [path.rpartition(".")[2] for path in family.linears]
    torch.manual_seed(0)
    adapted = get_peft_model(model, LoraConfig(r=4, lora_alpha=8, target_modules=targets, task_type="CAUSAL_LM"))
    batch = Batch(input_ids=IDS, attention_mask=torch.ones_like(IDS), labels=IDS)
    settings = FinetuneConfig(steps=3, learning_rate=0.05, warmup_steps=0)
    train_adapter(adapted.train(), iter([batch] * 3), settings, lambda step, loss: None)
    for name, parameter in adapted.named_parameters():
        if ".lora_" in name:
            parameter.data = parameter.data.to(torch.bfloat16)
    write_mixed_model(directory, model.config, MixedPrecision(bits=BITS, double_quant=True), tensors, family)
    quantize = QuantizeConfig(lora_rank=4, lora_alpha=8)
    write_adapter(directory / "adapter", adapter_tensors(adapted, torch.bfloat16), quantize, targets)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (directory / name).write_bytes((source / name).read_bytes())
    return adapted.eval()


def test_a_reloaded_checkpoint_gives_the_logits_of_the_model_in_memory_in_a_process_of_its_own(
    tiny_llama: Path, tmp_path: Path
) -> None:
    model = memory_model_and_checkpoint(tiny_llama, tmp_path / "mixed")
    with torch.no_grad():
        expected = model(IDS).logits
        with model.disable_adapter():
            without = model(IDS).logits
    assert not torch.equal(expected, without)  # an adapter that does nothing could not tell
    script = (
        "import sys, torch; from qpruner_core import load_compressed\n"
        "model, _ = load_compressed(sys.argv[1])\n"
        "with torch.no_grad(): torch.save(model(torch.arange(3, 35).unsqueeze(0)).logits, sys.argv[2])\n"
    )
    actual = tmp_path / "actual.pt"
    subprocess.run([sys.executable, "-c", script, str(tmp_path / "mixed"), str(actual)], check=True)
    assert torch.equal(torch.load(actual), expected)


def test_a_checkpoint_without_a_tensor_is_refused(tiny_llama: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    memory_model_and_checkpoint(tiny_llama, tmp_path / "mixed")
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
    memory_model_and_checkpoint(tiny_llama, tmp_path / "mixed")
    assert json.loads((tmp_path / "mixed" / "config.json").read_text())["quantization_config"]["bits"] == list(BITS)
    with pytest.raises((ValueError, RuntimeError, ImportError)):
        AutoModelForCausalLM.from_pretrained(tmp_path / "mixed")

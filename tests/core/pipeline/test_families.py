"""A tiny model of every family through the whole pipeline."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from qpruner_core import compress
from qpruner_core.adapters import attach_adapter
from qpruner_core.loading import load_compressed, load_mixed_checkpoint
from qpruner_core.measure.memory import loaded_bytes
from qpruner_core.mixed.groups import linear_names
from qpruner_core.mixed.mixed_model import load_mixed_model
from qpruner_core.models import load_model
from qpruner_core.models.families import family_names, find_family, register_families
from tests.core.pipeline.conftest import quick_config
from tests.core.small_models import small_model
from tests.tiny_model import build_tokenizer, write_text_dataset

IDS = torch.arange(3, 35).unsqueeze(0)
SETTINGS = {
    "sequence_length": 32,
    "prune": {
        "ratio": 0.2, "attention_unit": "kv_group", "protect_first": 1, "protect_last": 1, "width_multiple": 8,
        "calibration_sequences": 2,
    },
    "score": {"calibration_sequences": 2, "clusters": 4},
    "allocate": {"trials": 4, "random_seeds": 1, "candidates": 10, "calibration_sequences": 2},
    "quantize": {"lora_rank": 2, "loftq_iterations": 1},
    "finetune": {"steps": 3, "batch_size": 2, "learning_rate": 0.01},
    "evaluate": {"max_tokens": 128, "generated_tokens": 2},
}  # fmt: skip
QUICK_FAMILIES = ("gpt2", "falcon", "qwen3_moe")
"""One of each kind that is unlike Llama, which the other tests of the pipeline run: the rest take minutes together."""


@pytest.fixture(scope="module")
def few_words(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_text_dataset(tmp_path_factory.mktemp("few") / "words.txt", max_bytes=20_000)


@pytest.mark.parametrize(
    "model_type",
    [name if name in QUICK_FAMILIES else pytest.param(name, marks=pytest.mark.slow) for name in family_names()],
)
def test_a_model_of_every_family_goes_through_all_stages_and_loads_as_it_was_evaluated(
    model_type: str, few_words: Path, tmp_path: Path
) -> None:
    source, output = tmp_path / "model", tmp_path / "out"
    tokenizer = build_tokenizer(source)
    options: dict[str, Any] = {"experts_implementation": "grouped_mm"} if model_type == "qwen3_moe" else {}
    dense = small_model(
        model_type, dtype=torch.bfloat16, vocab_size=len(tokenizer), **options,
    )  # fmt: skip
    dense.save_pretrained(source)
    dense_bytes = loaded_bytes(load_model(source))
    budget = int(0.85 * dense_bytes)
    report = compress(quick_config(source, few_words, memory_budget=budget, **SETTINGS), output)

    assert report.predicted_bytes == report.measurement("final").bytes <= budget
    assert report.measurement("dense").bytes == dense_bytes
    assert report.measurement("pruned").parameters < report.measurement("dense").parameters
    work = output.with_name("out.work")
    evaluated = load_mixed_checkpoint(work / "quantize" / "model", work / "finetune" / "adapter")
    model, _ = load_compressed(output / "mixed")
    with torch.no_grad():
        assert torch.equal(model(IDS).logits, evaluated(IDS).logits)
    check_merged(output, model_type)


def check_merged(output: Path, model_type: str) -> None:
    """The merged checkpoint is the mixed one with its adapter, in modules of the family's own kinds."""
    register_families()
    merged, info = AutoModelForCausalLM.from_pretrained(
        output / "merged", dtype=torch.bfloat16, output_loading_info=True
    )
    assert not any(info.values())
    base = load_mixed_model(output / "mixed", dequantize=True)
    with torch.no_grad():
        expected = attach_adapter(base, output / "mixed" / "adapter")(IDS).logits.float()
        assert (merged(IDS).logits - expected).norm() < 0.05 * expected.norm()
    adapted = {name.rpartition(".")[0] for name in adapter_keys(output / "mixed" / "adapter")}
    family = find_family(model_type)
    linears = {
        name for layer in range(len(family.decoder_layers(merged))) for name in linear_names(merged, family, layer)
    }
    assert adapted == {f"base_model.model.{name}.{factor}" for name in linears for factor in ("lora_A", "lora_B")}


def adapter_keys(directory: Path) -> list[str]:
    from safetensors import safe_open

    with safe_open(directory / "adapter_model.safetensors", framework="pt") as file:
        return list(file.keys())

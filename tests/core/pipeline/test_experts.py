"""A model with experts in a budget that they cannot meet in 16 bits."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from gguf import GGUFReader

from qpruner_core import compress
from qpruner_core.measure.memory import loaded_bytes
from qpruner_core.models import load_model
from qpruner_core.report import CompressionReport
from qpruner_core.targets.gguf import read_gguf
from qpruner_core.training.scaled_linear import ScaledLinear
from qpruner_core.training.scaled_model import load_scaled_model
from tests.core.pipeline.conftest import quick_config
from tests.core.pipeline.test_families import SETTINGS
from tests.core.small_models import small_model
from tests.engines import llama_cpp
from tests.tiny_model import build_tokenizer, write_text_dataset

_IDS = [index % 90 + 3 for index in range(60)]
_EXPERTS = ("ffn_gate_exps", "ffn_up_exps", "ffn_down_exps")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, CompressionReport]:
    """A GGUF file of 40 % of the bytes in 16 bits, most of which are those of experts."""
    directory = tmp_path_factory.mktemp("experts")
    source, output = directory / "model", directory / "out"
    tokenizer = build_tokenizer(source)
    dense = small_model(
        "qwen3_moe", dtype=torch.bfloat16, vocab_size=len(tokenizer), hidden_size=64, num_attention_heads=4,
        num_key_value_heads=2, head_dim=16, moe_intermediate_size=96, mlp_only_layers=[], num_hidden_layers=3,
    )  # fmt: skip
    dense.save_pretrained(source)
    words = write_text_dataset(directory / "words.txt", max_bytes=20_000)
    budget = int(0.4 * loaded_bytes(load_model(source)))
    settings = SETTINGS | {"prune": {"ratio": 0.0}, "quantize": {}}
    config = quick_config(source, words, memory_budget=budget, target="gguf", **settings)
    return output, compress(config, output)


def test_every_expert_is_quantized_and_the_bytes_are_those_predicted(run: tuple[Path, CompressionReport]) -> None:
    output, report = run
    tensors = GGUFReader(output / "model.gguf").tensors
    stacked = [tensor for tensor in tensors if tensor.name.split(".")[-2] in _EXPERTS]
    assert len(stacked) == 3 * len(_EXPERTS)
    for tensor in stacked:
        assert tensor.n_bytes < tensor.n_elements, tensor.name  # below 8 bits per weight
    predicted = sum(int(tensor.n_bytes) for tensor in tensors)
    assert predicted == report.predicted_bytes == report.measurement("final").bytes <= report.memory_budget


def test_recovery_reaches_the_scales_of_the_experts_that_get_tokens(run: tuple[Path, CompressionReport]) -> None:
    output, report = run
    model = load_scaled_model(output.with_name("out.work") / "quantize" / "model")
    model(torch.tensor([_IDS]), labels=torch.tensor([_IDS])).loss.backward()
    of_experts = [
        module for name, module in model.named_modules() if isinstance(module, ScaledLinear) and ".experts." in name
    ]
    assert len(of_experts) > len(_EXPERTS) * 6
    reached = [share for module in of_experts for share in module.shares if share.grad is not None]
    assert len(reached) > len(of_experts) / 2
    assert all(bool(share.grad.any()) for share in reached if share.grad is not None)
    assert report.measurement("final").bytes == report.measurement("mixed").bytes


def test_the_engine_computes_what_the_file_read_back_does(run: tuple[Path, CompressionReport]) -> None:
    path = run[0] / "model.gguf"
    found = read_gguf(path, dtype=torch.float32)
    with torch.no_grad():
        ours = found(torch.tensor([_IDS])).logits[0]
    assert llama_cpp.divergence(ours, llama_cpp.logits(path, _IDS)) < 0.01

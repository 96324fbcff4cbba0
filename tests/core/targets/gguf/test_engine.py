"""llama.cpp computes what the file's model computes in torch, for every family and for layers that differ."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gguf.constants import GGMLQuantizationType
from gguf.quants import quantize
from transformers import PretrainedConfig

from qpruner_core.mixed.groups import linear_names
from qpruner_core.models.experts import separate_experts
from qpruner_core.models.families import find_family
from qpruner_core.precisions.ggml import GGML
from qpruner_core.targets.gguf import PackedTensor, loader_of, read_gguf, write_gguf
from tests.core.small_models import BIASED
from tests.engines import llama_cpp
from tests.gguf_target import AS_LLAMA_CPP, DECI, DIFFERENT, config_of, pruned_config, random_model, widths, write
from tests.tiny_model import build_tokenizer

_IDS = [index % 90 + 3 for index in range(60)]
YARN = {"rope_type": "yarn", "original_max_position_embeddings": 16}
_LARGEST = 1e-4
"""Nats; float16 leaves 1e-6 and less, and the tanh that stands for GPT-NeoX's exact GELU no more than that."""


def _compare(config: PretrainedConfig, path: Path) -> None:
    write(random_model(config), path)
    _compare_file(path, _LARGEST, margin=0.01)


def _compare_file(path: Path, largest: float, margin: float) -> None:
    """Each greedy token of the engine is ours, but for ties within ``margin``."""
    found = read_gguf(path, dtype=torch.float32)
    with torch.no_grad():
        ours = found(torch.tensor([_IDS])).logits[0]
    assert llama_cpp.divergence(ours, llama_cpp.logits(path, _IDS)) < largest
    answer = llama_cpp.greedy(path, _IDS[:20], 10)
    with torch.no_grad():
        logits = found(torch.tensor([_IDS[:20] + answer])).logits[0, 19:-1]
    chosen = logits.gather(1, torch.tensor(answer)[:, None]).flatten()
    assert (logits.max(-1).values - chosen).max() < margin


@pytest.mark.parametrize("family", AS_LLAMA_CPP)
def test_the_engine_predicts_what_the_file_read_back_predicts(family: str, tmp_path: Path) -> None:
    _compare(config_of(family), tmp_path / "model.gguf")


@pytest.mark.parametrize(
    "scaling",
    [
        {"rope_type": "linear"},
        YARN,
        YARN | {"attention_factor": 1.4},
        YARN | {"mscale": 2.0, "mscale_all_dim": 0.5},
        YARN | {"beta_fast": 8.0, "beta_slow": 2.0},
        {
            "rope_type": "llama3",
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            "original_max_position_embeddings": 16,
        },
    ],
    ids=str,
)
def test_stretched_positions_are_those_of_the_source(scaling: dict[str, Any], tmp_path: Path) -> None:
    config = config_of("llama", rope_parameters={"factor": 4.0, "rope_theta": 10000.0, **scaling})
    model, path = random_model(config), tmp_path / "model.gguf"
    write(model, path)
    with torch.no_grad():
        source = model(torch.tensor([_IDS])).logits[0]
    assert llama_cpp.divergence(source, llama_cpp.logits(path, _IDS)) < _LARGEST
    _compare_file(path, _LARGEST, margin=0.01)


@pytest.mark.parametrize("output_bias", [False, True])
@pytest.mark.parametrize("family", DECI)
def test_layers_that_differ_are_computed_as_they_are(family: str, output_bias: bool, tmp_path: Path) -> None:
    config = pruned_config(family, DIFFERENT, output_bias=output_bias, **DECI[family])
    assert loader_of(config).name == "deci"
    _compare(config, tmp_path / "model.gguf")


@pytest.mark.parametrize(
    ("family", "overrides"),
    [("llama", BIASED), ("granite", {}), ("qwen2", {}), ("llama", BIASED | {"tie_word_embeddings": True})],
)
def test_biases_that_make_up_for_removed_units_are_computed(
    family: str, overrides: dict[str, Any], tmp_path: Path
) -> None:
    shape = widths([4] * 5, [2] * 5, [24] * 5)
    _compare(pruned_config(family, shape, output_bias=True, **overrides), tmp_path / "model.gguf")


@pytest.mark.parametrize("family", [name for name in AS_LLAMA_CPP if name not in ("smollm3", "qwen3_moe")])
def test_a_model_without_some_of_its_layers_is_computed(family: str, tmp_path: Path) -> None:
    kept = find_family(family).widths(config_of(family))
    _compare(pruned_config(family, [*kept[:1], None, *kept[2:]]), tmp_path / "model.gguf")  # type: ignore[list-item]


@pytest.mark.parametrize("form", ["Q8_0", "Q4_0", "Q5_1"])
@pytest.mark.parametrize("family", ["llama", "gpt2", "phi3", "gpt_neox", "qwen3_moe"])
def test_packed_rows_are_computed_in_the_order_that_the_engine_has_them(family: str, form: str, tmp_path: Path) -> None:
    """llama.cpp rounds what it multiplies packed weights with to 8 bits, and so differs from torch."""
    sizes = {"hidden_size": 64, "num_attention_heads": 4, "num_key_value_heads": 2, "intermediate_size": 96}
    sizes |= {"moe_intermediate_size": 32} if family == "qwen3_moe" else {}
    config = config_of(family, **sizes, num_hidden_layers=2)
    model = separate_experts(random_model(config))
    kind = GGMLQuantizationType[form]
    names = [name for layer in range(2) for name in linear_names(model, find_family(family), layer)]
    linears = {f"{name}.weight" for name in names}
    weights: dict[str, torch.Tensor | PackedTensor] = {}
    for name, parameter in model.named_parameters():
        weights[name] = parameter.data
        if name in linears:
            outputs_first = parameter.data.T if family == "gpt2" else parameter.data
            packed = quantize(np.ascontiguousarray(outputs_first.numpy()), kind)
            weights[name] = PackedTensor(torch.from_numpy(packed), kind)
    build_tokenizer(tmp_path)
    path = tmp_path / "model.gguf"
    write_gguf(path, config=config, weights=weights, tokenizer_directory=tmp_path)
    _compare_file(path, 0.01, margin=0.5)


@pytest.mark.parametrize("name", GGML)
def test_every_precision_is_computed_as_it_is_read_back(name: str, tmp_path: Path) -> None:
    """All linear modules and the embeddings, which are the head too. llama.cpp rounds what it multiplies with to 8 bits
    for quantized weights, which is most of the divergence."""
    rows = {"hidden_size": 256, "intermediate_size": 512, "num_hidden_layers": 2, "head_dim": 32}
    config = config_of("llama", **rows, num_attention_heads=8, num_key_value_heads=4, tie_word_embeddings=True)
    model = random_model(config)
    weights: dict[str, torch.Tensor | PackedTensor] = {}
    for parameter, tensor in model.named_parameters():
        stored = GGML[name].encode(tensor.data.to(torch.bfloat16))["weight"] if tensor.dim() > 1 else tensor.data
        packed = tensor.dim() > 1 and stored.dtype == torch.uint8
        weights[parameter] = PackedTensor(stored, GGML[name].type) if packed else stored
    path = tmp_path / f"{name}.gguf"
    build_tokenizer(tmp_path)
    write_gguf(path, config=config, weights=weights, tokenizer_directory=tmp_path)
    _compare_file(path, 0.01, margin=0.5)

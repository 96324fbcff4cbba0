"""The cache's predicted bytes are those of transformers' own cache, and of what llama.cpp logged."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import PretrainedConfig, PreTrainedModel

from qpruner_core.device_fit.config import CacheType, FitConfig
from qpruner_core.device_fit.kv_cache import kv_cache_bytes, layer_caches, most_kv_cache_bytes
from qpruner_core.errors import InvalidConfigError
from qpruner_core.models.families import family_names, find_family
from qpruner_core.models.reshape import Shape, config_with_shape, empty_model
from qpruner_core.targets.config import TargetName
from tests.core.models.families.shapes import cut_shape, even_shape, possible_cuts, uneven_shape, without_layers
from tests.core.small_models import WINDOW, small_config

SHAPES = ("dense", "uneven", "even", "fewer layers")


def shaped(model_type: str, name: str) -> PretrainedConfig:
    """The config of the family's small model in one of :data:`SHAPES`."""
    dense, family = small_config(model_type), find_family(model_type)
    shapes: dict[str, Shape] = {
        "uneven": uneven_shape(family, dense), "even": even_shape(family, dense),
        "fewer layers": without_layers([*uneven_shape(family, dense)]),
    }  # fmt: skip
    return dense if name == "dense" else config_with_shape(dense, family, shapes[name])


def real_model(config: PretrainedConfig) -> PreTrainedModel:
    """A bfloat16 model of ``config`` with some weights."""
    model = empty_model(config).to_empty(device="cpu")
    for tensor in (*model.parameters(), *model.buffers()):
        tensor.data.zero_()
    return model


def cached_bytes(model: PreTrainedModel, sequences: int, context: int) -> int:
    """Bytes of the keys and values that transformers keeps after a prompt and two more tokens."""
    ids = torch.zeros(sequences, context - 2, dtype=torch.int64)
    with torch.no_grad():
        cache = model(input_ids=ids, use_cache=True).past_key_values
        for _ in range(2):
            cache = model(input_ids=ids[:, :1], past_key_values=cache, use_cache=True).past_key_values
    tensors = [tensor for layer in cache.layers for tensor in (layer.keys, layer.values)]
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("model_type", family_names())
def test_the_predicted_bytes_are_those_of_the_cache_of_transformers(model_type: str, shape: str) -> None:
    config, family = shaped(model_type, shape), find_family(model_type)
    model = real_model(config)
    for sequences, context in ((1, WINDOW - 2), (3, 4 * WINDOW + 1)):
        fit = FitConfig(memory=1, context=context, sequences=sequences)
        assert kv_cache_bytes(config, family, fit, "bitsandbytes") == cached_bytes(model, sequences, context)


GEMMA_3_270M: dict[str, Any] = {
    "num_hidden_layers": 18, "num_attention_heads": 4, "num_key_value_heads": 1, "head_dim": 256, "sliding_window": 512,
    "layer_types": (["sliding_attention"] * 5 + ["full_attention"]) * 3, "max_position_embeddings": 32_768,
}  # fmt: skip
SMOLLM2_135M: dict[str, Any] = {
    "num_hidden_layers": 30, "hidden_size": 576, "num_attention_heads": 9, "num_key_value_heads": 3,
    "max_position_embeddings": 8192,
}  # fmt: skip


@pytest.mark.parametrize(
    ("model_type", "sizes", "context", "sequences", "cache_type", "mebibytes"),
    [
        ("gemma3_text", GEMMA_3_270M, 2048, 4, "f16", 24.0 + 60.0),
        ("gemma3_text", GEMMA_3_270M, 2048, 1, "f16", 6.0 + 15.0),
        ("gemma3_text", GEMMA_3_270M, 8192, 1, "bf16", 24.0 + 15.0),
        ("gemma3_text", GEMMA_3_270M, 8192, 4, "f16", 96.0 + 60.0),
        ("gemma3_text", GEMMA_3_270M, 2048, 4, "q8_0", 12.75 + 31.875),
        ("gemma3_text", GEMMA_3_270M, 1000, 3, "f16", 9.0 + 45.0),
        ("gemma3_text", GEMMA_3_270M, 512, 16, "f16", 24.0 + 120.0),
        ("llama", SMOLLM2_135M, 2048, 4, "f16", 180.0),
        ("llama", SMOLLM2_135M, 8192, 4, "f16", 720.0),
        ("llama", SMOLLM2_135M, 2048, 4, "q8_0", 95.625),
        ("llama", SMOLLM2_135M, 1000, 3, "f16", 67.5),
    ],
)
def test_the_predicted_bytes_are_what_llama_cpp_logged(
    model_type: str, sizes: dict[str, Any], context: int, sequences: int, cache_type: CacheType, mebibytes: float
) -> None:
    """``KV buffer size`` in the log of ``llama-server``, release 11434, on a CPU."""
    config = small_config(model_type, **sizes)
    fit = FitConfig(memory=1, context=context, sequences=sequences, cache_type=cache_type)
    assert kv_cache_bytes(config, find_family(model_type), fit, "gguf") == mebibytes * 2**20


def test_llama_cpp_keeps_the_whole_context_of_layers_that_slide_in_mistral() -> None:
    config, family = small_config("mistral"), find_family("mistral")
    caches = layer_caches(config, family, "bitsandbytes")
    fit = FitConfig(memory=1, context=1024)
    assert all(layer.window == WINDOW for layer in caches)
    assert kv_cache_bytes(config, family, fit, "gguf") == 4 * 1024 * sum(layer.values for layer in caches)


@pytest.mark.parametrize("target", ["gguf", "compressed-tensors", "bitsandbytes"])
@pytest.mark.parametrize("model_type", ["llama", "gemma3_text", "qwen2", "gpt_neox", "falcon"])
@settings(max_examples=15, deadline=None)
@given(data=st.data())
def test_no_model_that_pruning_makes_takes_more_than_the_bound(
    data: st.DataObject, model_type: str, target: TargetName
) -> None:
    dense, family = small_config(model_type), find_family(model_type)
    fit = FitConfig(
        memory=1, context=data.draw(st.integers(1, 100_000)), sequences=data.draw(st.integers(1, 64)),
        cache_type=data.draw(st.sampled_from(["f16", "bf16"])),
    )  # fmt: skip
    kept = data.draw(st.sets(st.integers(0, dense.num_hidden_layers - 1), min_size=1))
    kind = data.draw(st.sampled_from(possible_cuts(family, dense)))
    shape = [widths if index in kept else None for index, widths in enumerate(cut_shape(family, dense, kind))]
    pruned = config_with_shape(dense, family, shape)
    assert kv_cache_bytes(pruned, family, fit, target) <= most_kv_cache_bytes(dense, family, fit, target)


@pytest.mark.parametrize(
    ("target", "cache_type", "field"),
    [
        ("compressed-tensors", "q8_0", "fit.cache_type"),
        ("gguf", "fp8", "fit.cache_type"),
        ("bitsandbytes", "fp8", "fit.cache_type"),
        ("gguf", "q8_0", "fit.cache_type"),  # 24 entries of keys are no block
    ],
)
def test_a_cache_that_the_engine_has_not_is_refused(target: TargetName, cache_type: CacheType, field: str) -> None:
    fit = FitConfig(memory=1, cache_type=cache_type)
    with pytest.raises(InvalidConfigError) as caught:
        kv_cache_bytes(small_config("llama"), find_family("llama"), fit, target)
    assert caught.value.field == field
    assert caught.value.remedy


def test_more_sequences_than_llama_cpp_serves_are_refused() -> None:
    with pytest.raises(InvalidConfigError, match="at most 256"):
        kv_cache_bytes(small_config("llama"), find_family("llama"), FitConfig(memory=1, sequences=257), "gguf")

"""The bytes that are predicted from shapes and types are those of the file."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from gguf import GGUFReader
from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from transformers import PretrainedConfig

from qpruner_core.errors import UnsupportedByTargetError
from qpruner_core.mixed.groups import linear_names
from qpruner_core.models.checkpoint import TensorShapes
from qpruner_core.models.experts import separate_experts
from qpruner_core.models.families import LayerWidths, find_family
from qpruner_core.models.reshape import empty_model
from qpruner_core.targets.gguf import (
    PackedTensor,
    other_tensor_bytes,
    planned_tensors,
    supports,
    tensor_bytes,
    write_gguf,
)
from tests.gguf_target import AS_LLAMA_CPP, DECI, config_of, pruned_config
from tests.tiny_model import build_tokenizer

_FLOATS = {
    GGMLQuantizationType.F32: torch.float32,
    GGMLQuantizationType.F16: torch.float16,
    GGMLQuantizationType.BF16: torch.bfloat16,
}
_TYPES = (
    *_FLOATS,
    *(GGMLQuantizationType[name] for name in ("Q8_0", "Q4_0", "Q5_1", "IQ4_NL", "Q2_K", "Q3_K", "Q4_K", "Q6_K")),
)


@st.composite
def _configs(draw: st.DrawFn) -> PretrainedConfig:
    """Models of any family, dense or of layers that differ where llama.cpp has that."""
    family = draw(st.sampled_from(sorted(AS_LLAMA_CPP)))
    tied = {} if family in ("gemma2", "gpt_neox", "olmo2") else {"tie_word_embeddings": draw(st.booleans())}
    channels = st.integers(1, 9).map(lambda count: count * draw(st.sampled_from([8, 32, 256])))
    if family in DECI and draw(st.booleans()):
        groups = draw(st.lists(st.integers(1, 3), min_size=5, max_size=5))
        shape = [
            LayerWidths(num_attention_heads=2 * group, num_key_value_heads=group, intermediate_size=draw(channels))
            for group in groups
        ]
        return pruned_config(family, shape, output_bias=draw(st.booleans()), **DECI[family], **tied)
    sizes = {"hidden_size": 64, "num_attention_heads": 4, "num_key_value_heads": 2, "intermediate_size": draw(channels)}
    return config_of(family, **sizes, **tied)


def _tensors(config: PretrainedConfig) -> TensorShapes:
    """The parameters that a file is written from: those of separate experts one by one."""
    parameters = separate_experts(empty_model(config)).named_parameters()
    return {name: (tuple(tensor.shape), "BF16") for name, tensor in parameters}


def _fits(shape: tuple[int, ...], form: GGMLQuantizationType) -> bool:
    return shape[-1] % GGML_QUANT_SIZES[form][0] == 0


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(config=_configs(), data=st.data())
def test_predicted_bytes_are_the_bytes_of_the_file(
    config: PretrainedConfig, data: st.DataObject, tmp_path: Path
) -> None:
    assert supports(config) is None
    family = find_family(config.model_type)
    skeleton = separate_experts(empty_model(config))
    layers = range(len(family.decoder_layers(skeleton)))
    matrices = {f"{name}.weight" for layer in layers for name in linear_names(skeleton, family, layer)}
    types: dict[str, GGMLQuantizationType] = {}
    weights: dict[str, torch.Tensor | PackedTensor] = {}
    for name, (shape, _) in _tensors(config).items():
        stored = shape[::-1] if family.model_type == "gpt2" and name in matrices else shape
        linear = name in matrices or name.endswith(("embed_tokens.weight", "lm_head.weight"))
        first = re.sub(r"experts\.\d+", "experts.0", name)  # all experts of a layer have its type
        if first not in types:
            wanted = data.draw(st.sampled_from(_TYPES)) if linear else GGMLQuantizationType.F16
            types[first] = wanted if _fits(stored, wanted) else GGMLQuantizationType.BF16
        types[name] = types[first]
        if types[name] in _FLOATS:
            weights[name] = torch.zeros(shape, dtype=_FLOATS[types[name]])
        else:
            block, size = GGML_QUANT_SIZES[types[name]]
            packed = torch.zeros(*stored[:-1], stored[-1] // block * size, dtype=torch.uint8)
            weights[name] = PackedTensor(packed, types[name])
    if not (tmp_path / "tokenizer.json").exists():
        build_tokenizer(tmp_path)
    path = tmp_path / "model.gguf"
    write_gguf(path, config=config, weights=weights, tokenizer_directory=tmp_path)
    found = GGUFReader(path).tensors
    assert tensor_bytes(config, types.__getitem__) == sum(int(tensor.n_bytes) for tensor in found)
    planned = planned_tensors(config, types.__getitem__)
    assert [(one.name, one.type, one.shape) for one in planned] == [
        (one.name, one.tensor_type, tuple(int(size) for size in reversed(one.shape))) for one in found
    ]
    chosen = {name for name, form in types.items() if form is not GGMLQuantizationType.BF16}
    rest = sum(tensor.bytes for tensor in planned if chosen.isdisjoint(tensor.parameters))
    assert other_tensor_bytes(config, chosen) == rest


def test_a_row_that_does_not_fit_its_type_is_refused_by_name() -> None:
    with pytest.raises(UnsupportedByTargetError, match=r"o_proj.*q4_k.*48.*256"):
        planned_tensors(config_of("llama"), lambda name: GGMLQuantizationType.Q4_K if "o_proj" in name else _F16)


_F16 = GGMLQuantizationType.F16


def test_no_part_of_a_file_is_left_where_a_weight_has_the_wrong_shape(tmp_path: Path) -> None:
    config = config_of("llama")
    build_tokenizer(tmp_path)
    weights = {name: torch.zeros(shape) for name, (shape, _) in _tensors(config).items()}
    weights["model.layers.3.mlp.up_proj.weight"] = torch.zeros(39, 48)
    with pytest.raises(ValueError, match=r"model.layers.3.mlp.up_proj.weight.*39"):
        write_gguf(tmp_path / "model.gguf", config=config, weights=weights, tokenizer_directory=tmp_path)
    assert not (tmp_path / "model.gguf").exists()


@pytest.mark.parametrize("family", AS_LLAMA_CPP)
def test_rows_of_a_packed_weight_move_as_those_of_numbers(family: str, tmp_path: Path) -> None:
    """Bytes that number the rows come out in the order in which numbers do."""
    config = config_of(family)
    build_tokenizer(tmp_path)
    plain: dict[str, torch.Tensor | PackedTensor] = {}
    packed: dict[str, torch.Tensor | PackedTensor] = {}
    linears = tuple(f".{path.rpartition('.')[2]}.weight" for path in find_family(family).linears)
    for index, (name, (shape, _)) in enumerate(_tensors(config).items()):
        values = torch.randn(shape, generator=torch.Generator().manual_seed(index))
        plain[name] = packed[name] = values.half()
        if name.endswith(linears):
            rows = (values.T if family == "gpt2" else values).half().contiguous()
            packed[name] = PackedTensor(rows.view(torch.uint8), _F16)
    for name, weights in (("plain", plain), ("packed", packed)):
        write_gguf(tmp_path / name, config=config, weights=weights, tokenizer_directory=tmp_path)
    for one, other in zip(GGUFReader(tmp_path / "plain").tensors, GGUFReader(tmp_path / "packed").tensors, strict=True):
        assert one.name == other.name
        assert np.array_equal(one.data, other.data)

"""Checkpoints of every family that the format can have: written, read by stock transformers, and read back."""

from __future__ import annotations

import json
from pathlib import Path

import compressed_tensors
import pytest
import torch
from compressed_tensors.quantization import QuantizationConfig
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open

from qpruner_core.errors import CorruptModelError
from qpruner_core.mixed.mixed_model import read_mixed_config
from qpruner_core.models.reshape import shapes_only
from qpruner_core.precisions.compressed_tensors import QUANTIZED
from qpruner_core.targets.compressed_tensors import (
    UNQUANTIZED,
    encode_model,
    fitting,
    read_compressed_tensors,
    tensor_bytes,
    write_compressed_tensors,
)
from qpruner_core.targets.compressed_tensors.reader import read_config
from tests.core.targets.compressed_tensors.quantized_models import (
    SUPPORTED,
    StockLogits,
    our_logits,
    precisions_in_turn,
    stock_logits,
    uniform_model,
    units,
    write,
    write_ids,
)

MIXES = {
    "4 bits": ["int4_g64"],
    "4, 8 and 16 bits": ["int4_g64", UNQUANTIZED, "int8_channel"],
    "every weight-only width": ["int2_g64", "int3_g64", "int5_g64", "int6_g64", "int7_g64", "int4_g32", "int4_g128"],
    "W8A8": ["int8_w8a8"],
    "fp8 and 4 bits": ["fp8", "int4_g64"],
}


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("checkpoints")
    write_ids(directory)
    write(directory / "llama", "llama")
    write(directory / "gemma3_text uneven", "gemma3_text", uneven=True)
    for mix, names in MIXES.items():
        write(directory / f"llama {mix}", "llama", names=names)
    return directory


@pytest.fixture(scope="module")
def in_stock(written: Path, tmp_path_factory: pytest.TempPathFactory) -> StockLogits:
    return stock_logits(written, tmp_path_factory.mktemp("clean"))


@pytest.mark.parametrize("name", ["llama", "gemma3_text uneven"])
def test_stock_transformers_computes_what_is_read_back(name: str, written: Path, in_stock: StockLogits) -> None:
    assert any((written / name).glob("*.py")) is name.endswith("uneven")
    stock = in_stock[name]
    assert isinstance(stock, torch.Tensor), stock
    assert torch.equal(our_logits(written, name), stock)


@pytest.mark.parametrize("mix", MIXES)
def test_every_precision_is_read_by_stock_transformers(mix: str, written: Path, in_stock: StockLogits) -> None:
    if mix == "every weight-only width" and compressed_tensors.__version__.startswith("0.17."):
        pytest.skip("this version of the library packs 3, 5, 6 and 7 bits in another way, and refuses the shapes")
    stock = in_stock[f"llama {mix}"]
    assert isinstance(stock, torch.Tensor), stock
    ours = our_logits(written, f"llama {mix}")
    divergence = (stock.float().softmax(-1) * (stock.float().log_softmax(-1) - ours.float().log_softmax(-1))).sum(-1)
    # The library rounds the inputs of W8A8 with another largest step than vLLM does
    rounds_inputs = "8" in mix and mix != "4, 8 and 16 bits"
    assert divergence.mean() <= (1e-3 if rounds_inputs else 0.0)


def test_the_config_is_valid_for_the_library_and_names_every_module(written: Path) -> None:
    values = json.loads((written / "llama 4, 8 and 16 bits" / "config.json").read_text())
    assert values["architectures"] == ["LlamaForCausalLM"]
    parsed = QuantizationConfig.model_validate(values["quantization_config"])
    assert set(parsed.config_groups) == {"int4_g64", "int8_channel"}
    assert parsed.format == "pack-quantized"
    named = [*parsed.ignore, *(name for group in parsed.config_groups.values() for name in group.targets)]
    assert sorted(named) == sorted(["lm_head", *(name for group in units(*uniform_model("llama")) for name in group)])
    mixed = json.loads((written / "llama fp8 and 4 bits" / "config.json").read_text())["quantization_config"]
    assert mixed["format"] == "mixed-precision"
    assert {group["format"] for group in mixed["config_groups"].values()} == {"float-quantized", "pack-quantized"}


def test_a_tensor_of_another_shape_or_a_missing_one_is_refused(written: Path, tmp_path: Path) -> None:
    model, family = uniform_model("llama")
    precision = precisions_in_turn(model, family)
    whole = encode_model(model, precision)
    name = next(key for key in whole if key.endswith("weight_packed"))
    for tensors in (
        {key: value for key, value in whole.items() if key != name},
        whole | {name: whole[name][:-1].clone()},
        whole | {name: whole[name][:, :-1].clone()},
        whole | {name.replace("packed", "scale"): whole[name][:1].clone()},
        whole | {"model.norm.weight": torch.ones(3)},
        whole | {"model.strange.weight": torch.ones(3)},
    ):
        write_compressed_tensors(tmp_path, config=model.config, family=family, tensors=tensors, precision=precision)
        with pytest.raises(CorruptModelError):
            read_compressed_tensors(tmp_path)


@pytest.mark.parametrize(
    "change",
    [
        {"quant_method": "qpruner"},
        {"config_groups": {"int4_g64": {"targets": []}}},
        {"config_groups": {"int9_g64": {"targets": []}}},
        {"config_groups": []},
    ],
)
def test_a_config_that_we_did_not_write_is_refused(change: dict[str, object], written: Path, tmp_path: Path) -> None:
    values = json.loads((written / "llama" / "config.json").read_text())
    values["quantization_config"] |= change
    (tmp_path / "config.json").write_text(json.dumps(values))
    with pytest.raises(CorruptModelError):
        read_config(tmp_path)


@pytest.mark.parametrize("change", [{"num_attention_heads": 0}, {"rms_norm_eps": []}, {"model_type": ["llama"]}])
def test_a_config_that_transformers_cannot_take_is_refused(
    change: dict[str, object], written: Path, tmp_path: Path
) -> None:
    values = json.loads((written / "llama" / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(values | change))
    with pytest.raises(CorruptModelError):
        read_config(tmp_path)
    own = values | {"quantization_config": {"precisions": {}, "double_quant": True}}
    (tmp_path / "config.json").write_text(json.dumps(own | change))
    with pytest.raises(CorruptModelError):
        read_mixed_config(tmp_path)


@pytest.mark.parametrize("path", ["self_attn.v_proj", "mlp.up_proj"])
@pytest.mark.parametrize("other", [UNQUANTIZED, "int4_g32"])
def test_modules_that_vllm_fuses_are_never_torn_apart(path: str, other: str, tmp_path: Path) -> None:
    model, family = uniform_model("llama")
    precision = precisions_in_turn(model, family, ["int4_g64"]) | {f"model.layers.1.{path}": other}
    with pytest.raises(ValueError, match="fuses"):
        write_compressed_tensors(tmp_path, config=model.config, family=family, tensors={}, precision=precision)


def test_what_the_format_cannot_have_is_refused_with_the_reason(tmp_path: Path) -> None:
    model, family = uniform_model("gpt2")
    with pytest.raises(ValueError, match="Conv1D"):
        write_compressed_tensors(tmp_path, config=model.config, family=family, tensors={}, precision={})
    llama, family = uniform_model("llama")
    with pytest.raises(ValueError, match="lm_head"):
        write_compressed_tensors(
            tmp_path, config=llama.config, family=family, tensors={}, precision={"lm_head": "int4_g64"}
        )


@settings(deadline=None, max_examples=15)
@given(data=st.data())
def test_predicted_bytes_are_those_of_the_files(data: st.DataObject, tmp_path_factory: pytest.TempPathFactory) -> None:
    model_type = data.draw(st.sampled_from(SUPPORTED))
    tied = data.draw(st.booleans())
    width = 32 * data.draw(st.integers(1, 8))
    model, family = uniform_model(model_type, tie_word_embeddings=tied, intermediate_size=width, num_hidden_layers=2)
    names = data.draw(st.lists(st.sampled_from([UNQUANTIZED, *QUANTIZED]), min_size=1, max_size=5))
    precision = precisions_in_turn(model, family, names)
    directory = tmp_path_factory.mktemp("bytes")
    write_compressed_tensors(
        directory, config=model.config, family=family, tensors=encode_model(model, precision), precision=precision,
        max_shard_size=data.draw(st.sampled_from([100_000, 5_000_000_000])),
    )  # fmt: skip
    found = 0
    for path in directory.glob("*.safetensors"):
        with safe_open(path, "pt") as file:
            found += sum(file.get_tensor(name).nbytes for name in file.keys())  # noqa: SIM118 - it is no dict
    assert tensor_bytes(shapes_only(model.config), precision) == found


@given(
    name=st.sampled_from(list(QUANTIZED)),
    shapes=st.lists(st.tuples(st.integers(1, 300), st.integers(1, 300)), min_size=1, max_size=3),
)
def test_what_fits_is_accepted_by_every_weight_and_stays_where_it_can(name: str, shapes: list[tuple[int, int]]) -> None:
    found = fitting(name, shapes)
    if all(QUANTIZED[name].accepts(*shape) for shape in shapes):
        assert found == name
    assert found == UNQUANTIZED or all(QUANTIZED[found].accepts(*shape) for shape in shapes)

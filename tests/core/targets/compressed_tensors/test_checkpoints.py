"""Checkpoints of every family that the format can have: written, read by stock transformers, and read back."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from compressed_tensors.quantization import QuantizationConfig
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open

from qpruner_core.errors import CorruptModelError
from qpruner_core.models.families import family_names
from qpruner_core.models.reshape import shapes_only
from qpruner_core.precisions.compressed_tensors import QUANTIZED
from qpruner_core.targets.compressed_tensors import (
    UNQUANTIZED,
    encode_model,
    fitting,
    read_compressed_tensors,
    supports,
    tensor_bytes,
    write_compressed_tensors,
)
from qpruner_core.targets.compressed_tensors.reader import read_config
from tests.core.small_models import small_config
from tests.core.targets.compressed_tensors.quantized_models import (
    precisions_in_turn,
    uneven_model,
    uniform_model,
    units,
)

SCRIPT = Path(__file__).with_name("load_in_stock.py")
SUPPORTED = [name for name in family_names() if supports(small_config(name)) is None]
MIXES = {
    "4 bits": ["int4_g64"],
    "4, 8 and 16 bits": ["int4_g64", UNQUANTIZED, "int8_channel"],
    "every weight-only width": ["int2_g64", "int3_g64", "int5_g64", "int6_g64", "int7_g64", "int4_g32", "int4_g128"],
    "W8A8": ["int8_w8a8"],
    "fp8 and 4 bits": ["fp8", "int4_g64"],
}


def write(directory: Path, model_type: str, *, uneven: bool = False, names: list[str] | None = None) -> None:
    model, family = (uneven_model if uneven else uniform_model)(model_type)
    precision = precisions_in_turn(model, family, names or MIXES["4, 8 and 16 bits"])
    write_compressed_tensors(
        directory, config=model.config, family=family, tensors=encode_model(model, precision), precision=precision
    )


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("checkpoints")
    torch.save(torch.randint(3, 290, (2, 24), generator=torch.Generator().manual_seed(0)), directory / "ids.pt")
    for name in SUPPORTED:
        write(directory / name, name)
        write(directory / f"{name} uneven", name, uneven=True)
    for mix, names in MIXES.items():
        write(directory / f"llama {mix}", "llama", names=names)
    return directory


@pytest.fixture(scope="module")
def in_stock(written: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, torch.Tensor | str]:
    """What a process in which our package cannot be imported makes of all checkpoints."""
    place = tmp_path_factory.mktemp("clean")
    done = subprocess.run(
        [sys.executable, "-I", str(SCRIPT), str(written), str(place / "answers.pt")],
        cwd=place, env={"PATH": "", "HF_HOME": str(place / "hf")}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    answers: dict[str, torch.Tensor | str] = torch.load(place / "answers.pt")
    return answers


def logits(written: Path, name: str) -> torch.Tensor:
    with torch.no_grad():
        found: torch.Tensor = read_compressed_tensors(written / name)(torch.load(written / "ids.pt")).logits
    return found


@pytest.mark.parametrize("uneven", [False, True], ids=["uniform", "uneven"])
@pytest.mark.parametrize("model_type", SUPPORTED)
def test_stock_transformers_computes_what_is_read_back(
    model_type: str, uneven: bool, written: Path, in_stock: dict[str, torch.Tensor | str]
) -> None:
    name = f"{model_type} uneven" if uneven else model_type
    assert any((written / name).glob("*.py")) is uneven
    assert isinstance(in_stock[name], torch.Tensor), in_stock[name]
    assert torch.equal(logits(written, name), in_stock[name])


@pytest.mark.parametrize("mix", MIXES)
def test_every_precision_is_read_by_stock_transformers(
    mix: str, written: Path, in_stock: dict[str, torch.Tensor | str]
) -> None:
    stock = in_stock[f"llama {mix}"]
    assert isinstance(stock, torch.Tensor), stock
    ours = logits(written, f"llama {mix}")
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
        whole | {name: whole[name][:-1]},
        whole | {name: whole[name][:, :-1]},
        whole | {name.replace("packed", "scale"): whole[name][:1]},
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


@pytest.mark.parametrize("path", ["self_attn.v_proj", "mlp.up_proj"])
@pytest.mark.parametrize("other", [UNQUANTIZED, "int4_g32"])
def test_modules_that_vllm_fuses_are_never_torn_apart(path: str, other: str, tmp_path: Path) -> None:
    model, family = uniform_model("llama")
    precision = precisions_in_turn(model, family, ["int4_g64"]) | {f"model.layers.1.{path}": other}
    with pytest.raises(ValueError, match="as one"):
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


@settings(deadline=None, max_examples=25)
@given(data=st.data())
def test_predicted_bytes_are_those_of_the_files(data: st.DataObject, tmp_path_factory: pytest.TempPathFactory) -> None:
    model_type = data.draw(st.sampled_from(SUPPORTED))
    tied = data.draw(st.booleans())
    width = 32 * data.draw(st.integers(1, 8))
    model, family = (
        uniform_model(
            model_type, tie_word_embeddings=tied, intermediate_size=width, num_hidden_layers=2, mlp_only_layers=[0]
        )
        if model_type == "qwen3_moe"
        else uniform_model(model_type, tie_word_embeddings=tied, intermediate_size=width, num_hidden_layers=2)
    )
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
    read = read_compressed_tensors(directory)
    assert sum(parameter.numel() for parameter in read.parameters()) == sum(p.numel() for p in model.parameters())


@given(
    name=st.sampled_from(list(QUANTIZED)),
    shapes=st.lists(st.tuples(st.integers(1, 300), st.integers(1, 300)), min_size=1, max_size=3),
)
def test_what_fits_is_accepted_by_every_weight_and_stays_where_it_can(name: str, shapes: list[tuple[int, int]]) -> None:
    found = fitting(name, shapes)
    if all(QUANTIZED[name].accepts(*shape) for shape in shapes):
        assert found == name
    assert found == UNQUANTIZED or all(QUANTIZED[found].accepts(*shape) for shape in shapes)

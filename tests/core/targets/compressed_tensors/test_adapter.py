"""An adapter beside a quantized base: what our package, stock transformers with PEFT, and vLLM make of both."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from peft import PeftModel

from qpruner_core.adapters import adapter_name, write_adapter
from qpruner_core.allocate.config import AllocateConfig
from qpruner_core.finetune.config import FinetuneConfig
from qpruner_core.formats.registry import load_format
from qpruner_core.mixed.groups import linear_names, precision_by_module
from qpruner_core.mixed.memory_model import MemoryModel
from qpruner_core.mixed.recovered import ADAPTER
from qpruner_core.models.families import Family, linear_shape
from qpruner_core.precisions import Tensors
from qpruner_core.quantize.config import QuantizeConfig
from qpruner_core.targets.compressed_tensors import encode_model, write_compressed_tensors
from qpruner_core.targets.compressed_tensors.target import CompressedTensors
from tests.core.targets.compressed_tensors.quantized_models import (
    IDS,
    MIX,
    SUPPORTED,
    StockLogits,
    precisions_in_turn,
    stock_logits,
    uneven_model,
    uniform_model,
    write_ids,
)
from tests.core.targets.compressed_tensors.test_vllm import PROMPTS, errors, ours
from tests.engines import vllm

FORMAT = load_format("compressed_tensors")
MODELS = [f"{name}{how}" for name in SUPPORTED for how in ("", " uneven")]


def _model(name: str) -> tuple[torch.nn.Module, Family]:
    return (uneven_model if name.endswith(" uneven") else uniform_model)(name.removesuffix(" uneven"))


def _factors(model: torch.nn.Module, family: Family, rank: int, *, other_ranks: bool = False) -> Tensors:
    random, tensors = torch.Generator().manual_seed(1), Tensors()
    for layer in range(len(family.decoder_layers(model))):
        for index, name in enumerate(linear_names(model, family, layer)):
            rows, columns = linear_shape(model.get_submodule(name))
            own = rank - (index % 2 if other_ranks else 0)
            for factor, shape in (("A", (own, columns)), ("B", (rows, own))):
                tensors[adapter_name(name, factor)] = (torch.randn(shape, generator=random) * 0.1).bfloat16()
    return tensors


def _write(output: Path, name: str, *, names: tuple[str, ...] = ("int4_g64", "bf16"), other_ranks: bool = True) -> Path:
    """As the format writes it, into ``output``."""
    place = FORMAT.place(output)
    model, family = _model(name)
    precision = precisions_in_turn(model, family, names)
    tensors = encode_model(model, precision)
    write_compressed_tensors(place, config=model.config, family=family, tensors=tensors, precision=precision)
    factors = _factors(model, family, 6, other_ranks=other_ranks)
    targets = family.adapted
    write_adapter(place / ADAPTER, factors, QuantizeConfig(lora_rank=6, lora_alpha=12.0), targets)
    return place


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("checkpoints")
    write_ids(directory)
    for name in MODELS:
        _write(directory / name, name, names=MIX).rename(directory / f"{name} stock")
    return directory


@pytest.fixture(scope="module")
def stock(written: Path, tmp_path_factory: pytest.TempPathFactory) -> StockLogits:
    return stock_logits(written, tmp_path_factory.mktemp("stock"))


@pytest.mark.parametrize("name", MODELS)
def test_stock_transformers_with_peft_computes_what_the_format_reads_back(
    name: str, written: Path, stock: StockLogits
) -> None:
    found = stock[f"{name} stock"]
    assert isinstance(found, torch.Tensor), found
    FORMAT.place(written / name).symlink_to(written / f"{name} stock", target_is_directory=True)
    model = FORMAT.load(written / name, "cpu")
    assert isinstance(model, PeftModel)
    ids = torch.load(written / IDS)
    with torch.no_grad():
        assert torch.equal(found, model(ids).logits)
        with model.disable_adapter():
            assert not torch.allclose(found, model(ids).logits, atol=0.1)


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(name=st.sampled_from(MODELS), rank=st.integers(1, 9), seed=st.integers(0, 99))
def test_predicted_bytes_with_adapters_are_those_held(
    name: str, rank: int, seed: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    output = tmp_path_factory.mktemp("out")
    model, family = _model(name)
    settings_ = QuantizeConfig(lora_rank=rank)
    target = CompressedTensors(settings_, AllocateConfig(), FinetuneConfig(recovery="adapter"))
    memory = MemoryModel(model.config, family, target)
    options = [list(group.options) for group in memory.groups]
    allocation = [names[(seed + index) % len(names)] for index, names in enumerate(options)]
    layers = f"{family.layers}."
    kinds = {
        module: kind
        for module, kind in precision_by_module(memory.groups, allocation).items()
        if module.startswith(layers)
    }
    tensors = encode_model(model, kinds)
    place = FORMAT.place(output)
    write_compressed_tensors(place, config=model.config, family=family, tensors=tensors, precision=kinds)
    targets = family.adapted
    write_adapter(place / ADAPTER, _factors(model, family, rank), settings_, targets)
    assert FORMAT.held_bytes(output, model) == memory.total(allocation)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", ["llama", "gemma3_text", "phi3", "llama uneven", "qwen2 uneven"])
def test_vllm_applies_the_adapter_on_a_base_in_four_bits(name: str, tmp_path: Path) -> None:
    vllm.python()
    vllm.require_four_bits()
    place = _write(tmp_path, name, names=("int4_g64", "int4_g32"))
    model = FORMAT.load(tmp_path, "cpu")
    assert isinstance(model, PeftModel)
    wanted = ours(model)
    with model.disable_adapter():
        alone = ours(model)
    found = vllm.log_probabilities(place, PROMPTS, own_code=name.endswith("uneven"), adapter=place / ADAPTER)
    assert errors(found, wanted).mean() < 0.05
    assert errors(found, alone).mean() > 0.2

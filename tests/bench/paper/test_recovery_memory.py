from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from bench.paper.measured import computing_model, loaded_size
from bench.paper.recovery_memory import Recovery, peak_of
from qpruner_core.adapters import adapter_name, write_adapter
from qpruner_core.measure.memory import loaded_bytes
from qpruner_core.mixed.groups import linear_names
from qpruner_core.mixed.mixed_model import MixedPrecision, encode, write_mixed_model
from qpruner_core.models import load_model
from qpruner_core.models.families import family_of, linear_shape
from qpruner_core.quantize.config import QuantizeConfig
from tests.tiny_model import build_tiny_llama


@pytest.fixture(scope="module")
def dense(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of about 27 MB."""
    return build_tiny_llama(
        tmp_path_factory.mktemp("dense") / "llama", train_steps=0, hidden_size=512, intermediate_size=2048,
        num_hidden_layers=3, dtype="bfloat16",
    )  # fmt: skip


def _adapted(dense: Path, precision: str, folder: Path) -> tuple[Path, Path]:
    """The model with all of its layers at ``precision``, and an adapter that changes nothing."""
    model = load_model(dense)
    family = family_of(model)
    names = [name for layer in range(3) for name in linear_names(model, family, layer)]
    mixed = MixedPrecision.of(dict.fromkeys(names, precision), QuantizeConfig())
    tensors = encode(model, mixed)
    write_mixed_model(folder / "model", model.config, mixed, tensors, family)
    factors = {}
    for name in names:
        outputs, inputs = linear_shape(model.get_submodule(name))
        factors[adapter_name(name, "A")] = torch.zeros(8, inputs, dtype=torch.bfloat16)
        factors[adapter_name(name, "B")] = torch.zeros(outputs, 8, dtype=torch.bfloat16)
    write_adapter(folder / "adapter", factors, QuantizeConfig(), family.adapted)
    return folder / "model", folder / "adapter"


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_the_memory_of_recovery_has_the_model_and_the_teacher_in_it(dense: Path, tmp_path: Path) -> None:
    size = loaded_bytes(load_model(dense))
    model, adapter = _adapted(dense, 16, tmp_path)
    alone = Recovery(model, adapter, teacher=None, quantized=False, steps=1, batch_size=1, length=16)

    without = peak_of(alone).resident
    taught = peak_of(replace(alone, teacher=dense)).resident

    assert without > size
    assert taught - without > 0.5 * size


def test_adapters_of_a_model_in_16_bits_are_merged_and_take_no_bytes(dense: Path, tmp_path: Path) -> None:
    size = loaded_bytes(load_model(dense))
    model, adapter = _adapted(dense, 16, tmp_path / "plain")
    quantized, its_adapter = _adapted(dense, 4, tmp_path / "quantized")

    assert loaded_size(model, adapter) == size
    assert loaded_size(quantized, its_adapter) < 0.4 * size


def test_the_model_that_computes_is_the_loaded_one(dense: Path, tmp_path: Path) -> None:
    quantized, adapter = _adapted(dense, 16, tmp_path)
    ids = torch.arange(12).unsqueeze(0)

    with torch.no_grad():
        expected = load_model(dense)(input_ids=ids).logits
        found = computing_model(quantized, adapter)(input_ids=ids).logits

    assert torch.equal(found, expected)

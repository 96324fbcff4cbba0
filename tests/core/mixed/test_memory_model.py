from __future__ import annotations

import random
import tempfile
from pathlib import Path
from typing import Any

import torch
from hypothesis import Phase, example, given, settings
from hypothesis import strategies as st

from qpruner_core.adapters import adapter_name, attach_adapter, write_adapter
from qpruner_core.allocate.config import AllocateConfig
from qpruner_core.fitting.fitted_linear import UnfittedLinear, fit_linears
from qpruner_core.measure.memory import loaded_bytes
from qpruner_core.mixed.groups import adapted_names, embedding_names, precision_by_module
from qpruner_core.mixed.memory_model import MemoryModel
from qpruner_core.mixed.mixed_model import (
    MixedPrecision,
    encode,
    load_mixed_model,
    write_mixed_model,
)
from qpruner_core.models.experts import separate_experts
from qpruner_core.models.families import LayerWidths, family_names, find_family, linear_weight
from qpruner_core.models.reshape import config_with_shape
from qpruner_core.precisions import Tensors, precisions
from qpruner_core.quantize.config import QuantizeConfig
from qpruner_core.targets.registry import bind_target
from tests.core.small_models import BIASED, small_config

LAYERS = 5


@st.composite
def models(draw: st.DrawFn) -> dict[str, Any]:
    model_type = draw(st.sampled_from(family_names()))
    return {
        "model_type": model_type,
        "tie_word_embeddings": draw(st.booleans()),
        "biased": draw(st.booleans()),
        "widths": [narrower(draw, layer) for layer in find_family(model_type).widths(small_config(model_type))],
        "allocate": AllocateConfig(
            granularity=draw(st.sampled_from(("layer", "block", "module"))), embeddings=draw(st.booleans())
        ),
        "seed": draw(st.integers(0, 1000)),
        "quantize": QuantizeConfig(
            double_quant=draw(st.booleans()),
            lora_rank=draw(st.integers(1, 9)),
            initialisation="loftq",
            loftq_iterations=1,
        ),
    }


def narrower(draw: st.DrawFn, dense: LayerWidths) -> LayerWidths:
    """Widths of up to those of ``dense``, and none of what it has none of."""
    groups = draw(st.integers(1, dense.num_key_value_heads))
    return LayerWidths(
        num_attention_heads=groups * dense.num_attention_heads // dense.num_key_value_heads,
        num_key_value_heads=groups,
        intermediate_size=8 * draw(st.integers(1, 5)) if dense.intermediate_size else 0,
        num_experts=draw(st.integers(2, 6)) if dense.num_experts else 0,
    )


STOCK_MIXTURE: dict[str, Any] = {
    "model_type": "qwen3_moe",
    "tie_word_embeddings": False,
    "biased": False,
    "widths": find_family("qwen3_moe").widths(small_config("qwen3_moe")),
    "allocate": AllocateConfig(),
    "seed": 0,
    "quantize": QuantizeConfig(lora_rank=2, initialisation="loftq", loftq_iterations=1),
}
"""PEFT treats this one's adapters as those of older checkpoints, unless it is kept from that."""


@settings(deadline=None, max_examples=20, phases=[Phase.explicit, Phase.generate])
@example(drawn=STOCK_MIXTURE)
@given(drawn=models())
def test_predicted_bytes_are_those_of_the_model_that_was_written_and_loaded(drawn: dict[str, Any]) -> None:
    family = find_family(drawn["model_type"])
    dense = small_config(
        drawn["model_type"],
        tie_word_embeddings=drawn["tie_word_embeddings"],
        **(BIASED if drawn["biased"] and drawn["model_type"] == "llama" else {}),
    )
    config = config_with_shape(dense, family, drawn["widths"])
    settings_ = drawn["quantize"]
    from transformers import AutoModelForCausalLM

    model = separate_experts(AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16))
    memory = MemoryModel(config, family, bind_target("bitsandbytes", settings_, drawn["allocate"]))
    generator = random.Random(drawn["seed"])
    allocation = [generator.choice(list(group.options)) for group in memory.groups]
    by_module = precision_by_module(memory.groups, allocation)
    adapter: Tensors = {}
    for layer in range(LAYERS):
        for name in adapted_names(model, family, layer):
            kind = precisions(settings_)[by_module[name]]
            unfitted = UnfittedLinear(linear_weight(model.get_submodule(name)), kind, 0)
            [fitted] = fit_linears([unfitted], settings_)
            adapter |= {adapter_name(name, "A"): fitted.a, adapter_name(name, "B"): fitted.b}
    with tempfile.TemporaryDirectory() as directory:
        outside = embedding_names(model).values()
        stored = {name: kind for name, kind in by_module.items() if kind != "bf16" or name not in outside}
        precision = MixedPrecision.of(stored, settings_)
        tensors = encode(model, precision)
        write_mixed_model(Path(directory), config, precision, tensors, family)
        targets = family.adapted
        write_adapter(Path(directory) / "adapter", adapter, settings_, targets)
        loaded = load_mixed_model(Path(directory))
        parts = memory.by_part(allocation)
        assert loaded_bytes(loaded) == parts.total - parts.adapters
        assert loaded_bytes(attach_adapter(loaded, Path(directory) / "adapter")) == memory.total(allocation)


def test_every_layer_at_a_larger_precision_takes_more_bytes() -> None:
    config = small_config("llama", intermediate_size=512)
    settings_ = AllocateConfig(granularity="layer", embeddings=False)
    memory = MemoryModel(config, find_family("llama"), bind_target("bitsandbytes", QuantizeConfig(), settings_))
    totals = [memory.total([precision] * 5) for precision in ("nf4", "int8", "bf16")]
    assert totals == sorted(totals)
    assert memory.total(["nf4", "nf4", "int8", "nf4", "nf4"]) - totals[0] == memory.group(2, "int8") - memory.group(
        2, "nf4"
    )


def test_the_dense_size_is_that_of_the_16_bit_model() -> None:
    from transformers import AutoModelForCausalLM

    for tied in (True, False):
        config = small_config("qwen2", tie_word_embeddings=tied)
        model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
        memory = MemoryModel(
            config, find_family("qwen2"), bind_target("bitsandbytes", QuantizeConfig(), AllocateConfig())
        )
        assert memory.dense_bytes == loaded_bytes(model)


def test_mean_bits_are_those_that_modules_are_stored_in_and_not_those_of_the_option() -> None:
    """Rows of 96 fall back to blocks of 32; only the down projection, of 256, has the format of its option."""
    config = small_config("llama", hidden_size=96, intermediate_size=256, num_hidden_layers=1)
    settings_ = AllocateConfig.model_validate({"precisions": ["q2_k"], "embeddings": False})
    target = bind_target("gguf", QuantizeConfig(), settings_)
    memory = MemoryModel(config, find_family("llama"), target)
    assert 2.625 < memory.mean_bits(memory.lowest) < 4.5

"""What a run may store follows what the engine computes on."""

from __future__ import annotations

from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qpruner_core import parse_config
from qpruner_core.allocate.config import AllocateConfig
from qpruner_core.config import CompressionConfig
from qpruner_core.errors import InvalidConfigError
from qpruner_core.finetune.config import FinetuneConfig
from qpruner_core.formats.base import CheckpointFacts
from qpruner_core.formats.registry import load_format
from qpruner_core.quantize.config import QuantizeConfig
from qpruner_core.targets.config import PRECISIONS, RunsOn, TargetName, has_kernel
from qpruner_core.targets.registry import TARGETS, bind_target

RUN: dict[str, Any] = {"model": "m", "dataset": "d", "memory_budget": 1000}
PROCESSORS: tuple[RunsOn, ...] = get_args(RunsOn)


def options(runs_on: RunsOn, recovery: str = "auto") -> tuple[str, ...]:
    finetune = FinetuneConfig.model_validate({"recovery": recovery})
    return bind_target("compressed-tensors", QuantizeConfig(), AllocateConfig(), finetune, runs_on).options


def parse(**values: Any) -> CompressionConfig:
    return parse_config(RUN | values)


@pytest.mark.parametrize("runs_on", PROCESSORS)
@pytest.mark.parametrize("name", TARGETS)
def test_the_default_precisions_have_kernels_wherever_the_result_runs(name: TargetName, runs_on: RunsOn) -> None:
    target = bind_target(name, QuantizeConfig(), AllocateConfig(), runs_on=runs_on)
    assert all(has_kernel(name, runs_on, option) for option in target.options)
    assert "bf16" in bind_target(name, QuantizeConfig(), AllocateConfig(), runs_on=runs_on).options


@pytest.mark.parametrize("runs_on", PROCESSORS)
@given(rows=st.integers(1, 600), columns=st.integers(1, 600))
def test_what_a_shape_falls_back_to_has_a_kernel_there_too(runs_on: RunsOn, rows: int, columns: int) -> None:
    target = bind_target("compressed-tensors", QuantizeConfig(), AllocateConfig(), runs_on=runs_on)
    for name in PRECISIONS["compressed-tensors"]:
        if has_kernel("compressed-tensors", runs_on, name):
            assert has_kernel("compressed-tensors", runs_on, target.stored_as(name, [(rows, columns)]))


def test_each_processor_has_precisions_of_its_own() -> None:
    assert options("gpu") == ("int4_g128", "int4_g64", "int4_g32", "int8_channel", "bf16")
    assert options("cpu") == ("int4_g128", "int4_g64", "int4_g32", "int8_w8a8", "bf16")
    assert {"int3_g64", "int5_g64", "int6_g64"} < set(options("gpu+humming"))


def test_on_a_cpu_the_base_of_an_adapter_has_no_inputs_in_8_bits() -> None:
    assert options("cpu", "adapter") == ("int4_g128", "int4_g64", "int4_g32", "bf16")
    with pytest.raises(InvalidConfigError, match="adapter"):
        parse(runs_on="cpu", finetune={"recovery": "adapter"}, allocate={"precisions": ["int8_w8a8", "bf16"]})


@pytest.mark.parametrize("runs_on", PROCESSORS)
@pytest.mark.parametrize("name", PRECISIONS["compressed-tensors"])
def test_a_precision_is_named_exactly_where_it_has_a_kernel(runs_on: RunsOn, name: str) -> None:
    values: dict[str, Any] = {"runs_on": runs_on, "allocate": {"precisions": [name]}}
    if has_kernel("compressed-tensors", runs_on, name):
        assert parse(**values).allocate.precisions == (name,)
        return
    with pytest.raises(InvalidConfigError, match=f"for {name}") as caught:
        parse(**values)
    assert caught.value.field == "allocate.precisions"


def test_earlier_names_are_read_as_what_took_their_place() -> None:
    assert parse(quantize={"humming_kernels": True}).runs_on == "gpu+humming"
    assert parse(quantize={"humming_kernels": False}).runs_on == "gpu"
    assert parse(target="gguf", quantize={"humming_kernels": True}).runs_on == "gpu"
    fit = {"memory": "1GB", "device": "cpu"}
    assert parse(memory_budget=None, fit=fit).runs_on == "cpu"
    assert parse(memory_budget=None, fit=fit, runs_on="cpu").runs_on == "cpu"
    both = parse(memory_budget=None, fit=fit | {"device": "gpu"}, quantize={"humming_kernels": True})
    assert both.runs_on == "gpu+humming"
    again = parse_config(both.model_dump(mode="json"))
    assert again == both


@pytest.mark.parametrize(
    "values",
    [
        {"runs_on": "cpu", "quantize": {"humming_kernels": True}},
        {"memory_budget": None, "fit": {"memory": "1GB", "device": "cpu"}, "quantize": {"humming_kernels": True}},
        {"memory_budget": None, "fit": {"memory": "1GB", "device": "cpu"}, "runs_on": "gpu"},
        {"memory_budget": None, "fit": {"memory": "1GB", "device": ["tpu"]}},
        {"target": "gguf", "runs_on": "gpu+humming"},
    ],
)
def test_names_that_contradict_each_other_are_refused(values: dict[str, Any]) -> None:
    with pytest.raises(InvalidConfigError) as caught:
        parse(**values)
    assert caught.value.field == "runs_on"


def test_the_card_says_where_vllm_runs_it() -> None:
    kind = load_format("compressed_tensors")
    facts = {on: CheckpointFacts("Llama", own_code=True, dense_bytes=1, runs_on=on) for on in PROCESSORS}
    assert kind.snippets(facts["gpu"])[0].text.startswith("vllm serve compressed-tensors --trust-remote-code")
    on_a_cpu = kind.snippets(facts["cpu"])[0].text
    assert on_a_cpu.startswith("python -m vllm.entrypoints.openai.api_server --model compressed-tensors")
    assert on_a_cpu.endswith(" --kv-cache-memory-bytes 4G")  # else vLLM wants 92 % of main memory to be free
    assert "AVX-512" in kind.description(facts["cpu"])
    assert "Humming" in kind.description(facts["gpu+humming"])

"""A device as budget: its parts add up, more use leaves less for weights, and what is planned really fits."""

from __future__ import annotations

from typing import Any, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import PretrainedConfig

from qpruner_core.allocate.config import AllocateConfig
from qpruner_core.config import BUDGET_REMEDY, CompressionConfig, parse_config
from qpruner_core.device_fit.config import FitConfig
from qpruner_core.device_fit.device_budget import DeviceBudget
from qpruner_core.errors import BudgetInfeasibleError, BudgetInvalidError, InvalidConfigError
from qpruner_core.mixed.memory_model import MemoryModel
from qpruner_core.models.families import family_names, find_family
from qpruner_core.models.reshape import config_with_shape
from qpruner_core.planner import Planner
from qpruner_core.planning import make_plan
from qpruner_core.quantize.config import QuantizeConfig
from qpruner_core.report import DeviceMemory
from qpruner_core.targets.config import RunsOn, TargetName
from qpruner_core.targets.registry import bind_target
from tests.core.models.families.shapes import uneven_shape
from tests.core.small_models import small_config

TARGETS: tuple[TargetName, ...] = ("gguf", "compressed-tensors", "bitsandbytes")
PRUNE: dict[str, Any] = {
    "attention_unit": "kv_group", "protect_first": 0, "protect_last": 0, "width_multiple": 1, "compensation": "none",
}  # fmt: skip
uses = st.builds(
    FitConfig,
    memory=st.integers(10**9, 10**14),
    context=st.integers(1, 100_000),
    sequences=st.integers(1, 200),
)
processors = st.sampled_from(get_args(RunsOn))


def parts_of(memory: DeviceMemory) -> list[int]:
    return [memory.weights, memory.kv_cache, memory.activations, memory.engine]


def config_of(fit: dict[str, Any] | FitConfig, target: TargetName = "bitsandbytes", **prune: Any) -> CompressionConfig:
    given = fit if isinstance(fit, dict) else fit.model_dump()
    return parse_config(
        {"model": "m", "dataset": "d", "target": target, "runs_on": "cpu", "fit": given, "sequence_length": 16,
         "prune": PRUNE | prune, "evaluate": {"generated_tokens": 2}}
    )  # fmt: skip


def memory_for(weights: int, dense: PretrainedConfig, target: TargetName, **use: Any) -> int:
    """The memory that leaves ``weights`` bytes beside all else of the dense model."""
    budget = DeviceBudget(FitConfig(memory=1, **use), target, "cpu", dense, find_family(dense.model_type))
    return budget.smallest_memory(dense, weights)


@pytest.mark.parametrize("target", TARGETS)
@settings(max_examples=25, deadline=None)
@given(
    fit=uses, model_type=st.sampled_from(family_names()), dense=st.booleans(), bound=st.booleans(), runs_on=processors
)
def test_the_parts_add_up_to_the_memory(
    target: TargetName, fit: FitConfig, model_type: str, dense: bool, bound: bool, runs_on: RunsOn
) -> None:
    family, config = find_family(model_type), small_config(model_type)
    pruned = config if dense else config_with_shape(config, family, uneven_shape(family, config))
    memory = DeviceBudget(fit, target, runs_on, config, family).memory(None if bound else pruned)
    assert sum(parts_of(memory)) == memory.memory == fit.memory
    assert min(memory.kv_cache, memory.activations, memory.engine) > 0 or fit.context == 1


@pytest.mark.parametrize("target", TARGETS)
@settings(max_examples=25, deadline=None)
@given(
    fit=uses, model_type=st.sampled_from(family_names()), longer=st.integers(0, 5000), more=st.integers(0, 50),
    larger=st.integers(0, 10**12), bound=st.booleans(), runs_on=processors,
)  # fmt: skip
def test_more_use_never_leaves_more_bytes_for_weights_and_more_memory_never_fewer(
    target: TargetName, fit: FitConfig, model_type: str, longer: int, more: int, larger: int, bound: bool,
    runs_on: RunsOn,
) -> None:  # fmt: skip
    family, config = find_family(model_type), small_config(model_type)
    pruned = None if bound else config

    def weights(**changed: int) -> int:
        return DeviceBudget(fit.model_copy(update=changed), target, runs_on, config, family).weights(pruned)

    assert weights(context=fit.context + longer) <= weights()
    assert weights(sequences=fit.sequences + more) <= weights()
    assert weights(memory=fit.memory + larger) >= weights()


@pytest.mark.parametrize("target", TARGETS)
@settings(max_examples=25, deadline=None)
@given(fit=uses, model_type=st.sampled_from(family_names()), runs_on=processors)
def test_a_pruned_model_never_leaves_less_for_weights_than_the_bound(
    target: TargetName, fit: FitConfig, model_type: str, runs_on: RunsOn
) -> None:
    family, config = find_family(model_type), small_config(model_type)
    pruned = config_with_shape(config, family, uneven_shape(family, config))
    budget = DeviceBudget(fit, target, runs_on, config, family)
    assert budget.weights(pruned) >= budget.weights(None)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("layout", ["same_ratio", "global", "depth"])
def test_the_plan_fits_and_no_smaller_ratio_does(layout: str, target: TargetName) -> None:
    dense, family = small_config("llama", num_hidden_layers=8), find_family("llama")
    use = {"context": 64, "sequences": 8}
    config = config_of({"memory": 1, **use}, target, layout=layout)
    smallest = Planner(config, dense, family).smallest(0.0).total
    memory = memory_for(smallest - 8000, dense, target, **use)
    planner = Planner(config_of({"memory": memory, **use}, target, layout=layout), dense, family)
    plan = make_plan(planner.config, dense)
    assert plan.ratio > 0
    assert plan.device is not None
    assert plan.memory_budget == plan.device.weights >= planner.smallest(plan.ratio).total
    assert sum(parts_of(plan.device)) == memory
    assert not planner.meets(plan.ratio - 0.01)
    if plan.shape is not None:
        pruned = config_with_shape(dense, family, plan.shape)
        assert planner.config.fit is not None
        assert plan.device == DeviceBudget(planner.config.fit, target, "cpu", dense, family).memory(pruned)
    assert make_plan(planner.config, dense) == plan


def test_a_pruned_cache_leaves_more_for_weights() -> None:
    dense, family = small_config("llama"), find_family("llama")
    use = {"context": 64, "sequences": 4096}  # a cache that is large beside the weights
    memory = memory_for(120_000, dense, "bitsandbytes", **use)
    planner = Planner(config_of({"memory": memory, **use}), dense, family)
    assert planner.budget(0.4) > planner.budget(0.0)


@pytest.mark.parametrize("target", TARGETS)
def test_a_device_without_room_is_refused_with_what_would_fit(target: TargetName) -> None:
    dense, family = small_config("llama"), find_family("llama")
    use = {"context": 64, "sequences": 40}
    smallest = Planner(config_of({"memory": 1, **use}, target), dense, family).smallest(0.5).total
    memory = memory_for(smallest, dense, target, context=40, sequences=20)
    with pytest.raises(BudgetInfeasibleError) as caught:
        make_plan(config_of({"memory": memory, **use}, target), dense)
    assert caught.value.field == "fit.memory"
    assert "fit.sequences to at most" in caught.value.remedy
    needed = caught.value.smallest_feasible_bytes
    assert make_plan(config_of({"memory": needed, **use}, target), dense).memory_budget >= smallest
    with pytest.raises(BudgetInfeasibleError):
        make_plan(config_of({"memory": needed - 1, **use}, target), dense)


def test_a_device_smaller_than_its_engine_is_refused() -> None:
    with pytest.raises(BudgetInfeasibleError, match="which leaves nothing"):
        make_plan(config_of({"memory": 1, "context": 16}), small_config("llama"))


def test_a_device_with_room_for_the_dense_model_is_refused() -> None:
    with pytest.raises(BudgetInvalidError) as caught:
        make_plan(config_of({"memory": "24GB", "context": 16}), small_config("llama"))
    assert caught.value.field == "fit.memory"


def test_a_context_beyond_the_positions_of_the_model_is_refused() -> None:
    with pytest.raises(InvalidConfigError) as caught:
        make_plan(config_of({"memory": "24GB", "context": 65}), small_config("llama"))
    assert caught.value.field == "fit.context"


def test_the_plan_of_a_number_of_bytes_is_that_number() -> None:
    dense = small_config("llama")
    budget = MemoryModel(dense, find_family("llama"), bind_target("gguf", QuantizeConfig(), AllocateConfig()))
    values = {"model": "m", "dataset": "d", "sequence_length": 16, "evaluate": {"generated_tokens": 2}}
    plan = make_plan(parse_config(values | {"memory_budget": budget.dense_bytes - 1}), dense)
    assert (plan.memory_budget, plan.device) == (budget.dense_bytes - 1, None)


@pytest.mark.parametrize(
    ("given_settings", "said"),
    [
        ({}, "Neither memory_budget nor fit is given."),
        ({"memory_budget": None, "fit": None}, "Neither memory_budget nor fit is given."),
        ({"memory_budget": "1MB", "fit": {"memory": "1GB"}}, "memory_budget and fit are both given."),
    ],
)
def test_exactly_one_budget_is_given(given_settings: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidConfigError) as caught:
        parse_config({"model": "m", "dataset": "d", **given_settings})
    assert (caught.value.field, caught.value.message, caught.value.remedy) == ("memory_budget", said, BUDGET_REMEDY)


@pytest.mark.parametrize(
    ("fit", "field"),
    [
        ({"memory": "0GB"}, "fit.memory"), ({"memory": "24Gb"}, "fit.memory"), ({"memory": 2**63}, "fit.memory"),
        ({"memory": 1e400}, "fit.memory"), ({}, "fit.memory"), ({"memory": 1, "context": 0}, "fit.context"),
        ({"memory": 1, "context": 2**24 + 1}, "fit.context"), ({"memory": 1, "sequences": 0}, "fit.sequences"),
        ({"memory": 1, "sequences": 10**30}, "fit.sequences"), ({"memory": 1, "cache_type": "f32"}, "fit.cache_type"),
        ({"memory": 1, "cards": 2}, "fit.cards"), ("24GB", "fit"),
    ],
)  # fmt: skip
def test_an_absurd_device_is_refused_by_the_name_of_its_setting(fit: Any, field: str) -> None:
    with pytest.raises(InvalidConfigError) as caught:
        parse_config({"model": "m", "dataset": "d", "fit": fit})
    assert caught.value.field == field


def test_a_config_survives_json() -> None:
    config = config_of({"memory": "24GB", "context": 16})
    assert CompressionConfig.model_validate(config.model_dump(mode="json")) == config

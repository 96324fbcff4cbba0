"""The law of the budget, for whole plans: what is loaded keeps it, is what was predicted, and a tighter one never gives
more bytes."""

from __future__ import annotations

import math
import random
import tempfile
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import Phase, assume, given, settings
from hypothesis import strategies as st
from transformers import AutoModelForCausalLM, PretrainedConfig

from qpruner_core.adapters import adapter_name, write_adapter
from qpruner_core.allocate.config import AllocateConfig
from qpruner_core.config import CompressionConfig
from qpruner_core.errors import BudgetInfeasibleError, InvalidConfigError
from qpruner_core.fitting.rank_allocation import allocate_ranks
from qpruner_core.loading import load_mixed_checkpoint
from qpruner_core.measure.memory import loaded_bytes
from qpruner_core.mixed.groups import embedding_names, precision_by_module
from qpruner_core.mixed.memory_model import MemoryModel
from qpruner_core.mixed.mixed_model import MixedPrecision, encode, write_mixed_model
from qpruner_core.models.families import find_family, linear_shape, linear_weight
from qpruner_core.models.reshape import config_with_shape
from qpruner_core.planner import Planner
from qpruner_core.planning import make_plan
from qpruner_core.precisions import Tensors
from qpruner_core.prune.config import PruneConfig
from qpruner_core.quantize.config import QuantizeConfig
from qpruner_core.search.answer import answer
from qpruner_core.search.scores import Scores
from qpruner_core.search.search import AllocationSearch
from qpruner_core.search.space import Allocation, SearchSpace
from tests.core.search.spaces import measured_by, scores_of
from tests.core.small_models import BIASED, small_config

FAMILIES = ("llama", "qwen2", "gpt2", "phi3", "gpt_neox", "opt")
ONE_ALLOCATION = ("knapsack", "mutual_information", "uniform")
SEARCHES = (*ONE_ALLOCATION, "bayesian", "random")


@dataclass(frozen=True)
class Case:
    """A dense model and all settings of a run but its budget; ``seed`` is also that of scores and losses."""

    dense: PretrainedConfig
    settings: dict[str, Any]
    seed: int

    def within(self, budget: int) -> CompressionConfig:
        return CompressionConfig(
            model="m",
            dataset="d",
            target="bitsandbytes",
            memory_budget=budget,
            seed=self.seed,
            sequence_length=16,
            **self.settings,
        )

    def smallest(self) -> int:
        """The smallest budget that can be met."""
        with pytest.raises(BudgetInfeasibleError) as caught:
            make_plan(self.within(1), self.dense)
        assert caught.value.smallest_feasible_bytes is not None
        return caught.value.smallest_feasible_bytes


@st.composite
def dense_models(draw: st.DrawFn) -> PretrainedConfig:
    model_type = draw(st.sampled_from(FAMILIES))
    groups, of_each = draw(st.sampled_from([(1, 4), (2, 2), (2, 3), (3, 2), (4, 1)]))
    if model_type in ("gpt2", "gpt_neox", "opt"):  # a head is a group
        groups, of_each = groups * of_each, 1
    return small_config(
        model_type,
        hidden_size=groups * of_each * draw(st.sampled_from([8, 16])),
        num_attention_heads=groups * of_each,
        num_key_value_heads=groups,
        num_hidden_layers=draw(st.integers(2, 4)),
        intermediate_size=8 * draw(st.integers(3, 24)),
        vocab_size=draw(st.integers(20, 300)),
        tie_word_embeddings=draw(st.booleans()),
        **(BIASED if model_type == "llama" and draw(st.booleans()) else {}),
        **({"word_embed_proj_dim": None} if model_type == "opt" else {}),
    )


@st.composite
def cases(draw: st.DrawFn, searches: tuple[str, ...] = SEARCHES) -> Case:
    layout = draw(st.sampled_from(("same_ratio", "stock")))
    prune = PruneConfig(
        ratio=draw(st.none() | st.none() | st.sampled_from((0.0, 0.1, 0.25, 0.4))),
        layout=layout,
        compensation=draw(st.sampled_from(("none", "bias", "refit") if layout != "stock" else ("none", "refit"))),
        attention_unit=draw(st.sampled_from(("kv_group", "query_head", "none"))),
        protect_first=draw(st.integers(0, 1)),
        protect_last=0,
        width_multiple=draw(st.sampled_from((1, 8, 16))),
    )
    search = draw(st.sampled_from(searches))
    allocate = AllocateConfig(
        search=search,
        prior=draw(st.sampled_from(("additive", "none"))) if search == "bayesian" else "additive",
        granularity=draw(st.sampled_from(("layer", "block", "module"))),
        embeddings=draw(st.booleans()),
        precisions=tuple(draw(st.sets(st.sampled_from(("nf4", "int8", "bf16")), min_size=1))),
        trials=draw(st.integers(1, 10)),
        random_seeds=2,
        candidates=20,
        batch=draw(st.integers(1, 3)),
        front_points=draw(st.integers(0, 2)),
    )
    quantize = QuantizeConfig(
        double_quant=draw(st.booleans()),
        lora_rank=draw(st.integers(1, 6)),
        rank_allocation=draw(st.sampled_from(("uniform", "error"))),
    )
    dense = draw(dense_models())
    return Case(dense, {"prune": prune, "allocate": allocate, "quantize": quantize}, draw(st.integers(0, 10**6)))


@dataclass(frozen=True)
class Found:
    """Where a run ends before its weights are made: the pruned shape, its search, and what that chose."""

    config: PretrainedConfig
    memory: MemoryModel
    space: SearchSpace
    scores: Scores
    search: AllocationSearch

    @property
    def precisions(self) -> Allocation:
        return self.search.best.precisions

    @property
    def bytes(self) -> int:
        return self.search.best.bytes


def run(case: Case, budget: int) -> Found:
    """Plan, prune and search within ``budget``, told losses that follow from the allocation alone."""
    config = case.within(budget)
    plan = make_plan(config, case.dense)
    assert plan.shape is not None
    bias = config.prune.compensation == "bias"
    pruned = config_with_shape(case.dense, plan.family, plan.shape, output_bias=bias) if plan.ratio else case.dense
    memory = MemoryModel(pruned, plan.family, plan.target)
    space = SearchSpace.of(memory, budget)
    scores = scores_of(space, case.seed)
    search = AllocationSearch(space, scores, config.allocate, seed=config.seed)

    def loss(allocation: Allocation) -> float:
        return scores.additive_loss(allocation) * math.exp(random.Random(f"{case.seed} {allocation}").gauss(0, 0.5))

    search.run(partial(map, measured_by(loss, 0.1)), lambda trial: None)
    return Found(pruned, memory, space, scores, search)


def loaded(case: Case, found: Found) -> int:
    """Bytes of the model of ``found`` with its adapters, of random weights, written and loaded as a run's is."""
    family = find_family(case.dense.model_type)
    quantize: QuantizeConfig = case.settings["quantize"]
    model = AutoModelForCausalLM.from_config(found.config, dtype=torch.bfloat16)
    kinds = precision_by_module(found.memory.groups, found.precisions)
    outside = embedding_names(model).values()
    shapes = {name: linear_shape(model.get_submodule(name)) for name in kinds if name not in outside}
    adapter: Tensors = {}
    for name, rank in ranks_of(shapes, quantize, case.seed).items():
        rows, columns = linear_weight(model.get_submodule(name)).shape
        adapter |= {adapter_name(name, "A"): torch.ones(rank, columns), adapter_name(name, "B"): torch.ones(rows, rank)}
    stored = {name: kind for name, kind in kinds.items() if kind != "bf16" or name not in outside}
    with tempfile.TemporaryDirectory() as directory:
        place = Path(directory)
        precision = MixedPrecision.of(stored, quantize)
        write_mixed_model(place, found.config, precision, encode(model, precision), family)
        write_adapter(place / "adapter", adapter, quantize, family.adapted)
        return loaded_bytes(load_mixed_checkpoint(place, place / "adapter"))


def ranks_of(shapes: dict[str, tuple[int, int]], quantize: QuantizeConfig, seed: int) -> dict[str, int]:
    """The ranks that the settings give, where each further one takes away less by chance."""
    if quantize.rank_allocation == "uniform":
        return dict.fromkeys(shapes, quantize.lora_rank)
    generator = random.Random(seed)
    gains = {name: sorted((generator.random() for _ in range(4 * quantize.lora_rank)), reverse=True) for name in shapes}
    return allocate_ranks(gains, shapes, quantize.lora_rank)


def budgets(case: Case, *shares: float) -> list[int]:
    """Budgets at ``shares`` of the way from the smallest that can be met to just below the dense model's bytes."""
    largest = Planner(case.within(1), case.dense, find_family(case.dense.model_type)).dense_bytes - 1
    try:
        smallest = case.smallest()
    except InvalidConfigError:  # no ratio this large
        assume(False)
    assume(smallest <= largest)
    return [smallest + int(share * (largest - smallest)) for share in shares]


@settings(deadline=None, max_examples=30, derandomize=True, phases=[Phase.explicit, Phase.generate])
@given(case=cases(), share=st.floats(0, 1))
def test_the_loaded_bytes_keep_the_budget_and_are_those_predicted(case: Case, share: float) -> None:
    (budget,) = budgets(case, share)
    found = run(case, budget)
    size = loaded(case, found)
    assert size <= budget
    assert abs(size - found.bytes) <= 0.01 * found.bytes
    assert found.bytes == found.memory.total(found.precisions)


@settings(deadline=None, max_examples=40, derandomize=True, phases=[Phase.explicit, Phase.generate])
@given(case=cases(ONE_ALLOCATION), shares=st.tuples(st.floats(0, 1), st.floats(0, 1)))
def test_a_tighter_budget_never_gives_more_bytes(case: Case, shares: tuple[float, float]) -> None:
    tight, loose = (run(case, budget) for budget in sorted(budgets(case, *shares)))
    assert tight.bytes <= loose.bytes


@settings(deadline=None, max_examples=20, derandomize=True, phases=[Phase.explicit, Phase.generate])
@given(case=cases(("bayesian", "random")), shares=st.tuples(st.floats(0, 1), st.floats(0, 1), st.floats(0, 1)))
def test_from_the_trials_of_one_search_a_tighter_budget_never_gets_more_bytes(
    case: Case, shares: tuple[float, float, float]
) -> None:
    """Two searches that each measure on their own may end either way: they try other allocations."""
    (budget,) = budgets(case, shares[0])
    found = run(case, budget)
    least = found.space.total(found.space.smallest)
    others = [found.space.with_budget(least + int(share * (budget - least))) for share in (*sorted(shares[1:]), 1)]
    sizes = [found.space.total(answer(found.scores, found.search.trials, other)[0]) for other in others]
    assert sizes == sorted(sizes)
    assert all(size <= other.budget for size, other in zip(sizes, others, strict=True))

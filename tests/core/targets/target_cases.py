"""Models of any shape and targets of any settings, from shapes alone."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any, get_args

import torch
from hypothesis import strategies as st
from transformers import PretrainedConfig, PreTrainedModel

from qpruner_core.allocate.config import AllocateConfig
from qpruner_core.mixed.memory_model import MemoryModel
from qpruner_core.models.experts import separate_experts
from qpruner_core.models.families import Family, LayerWidths, find_family
from qpruner_core.models.reshape import config_with_shape, empty_model
from qpruner_core.quantize.config import QuantizeConfig
from qpruner_core.search.space import SearchSpace
from qpruner_core.targets.base import Target
from qpruner_core.targets.config import PRECISIONS, RunsOn, TargetName
from qpruner_core.targets.registry import bind_target
from tests.core.small_models import BIASED, small_config
from tests.gguf_target import AS_LLAMA_CPP, DECI

_FAMILIES: dict[TargetName, tuple[str, ...]] = {
    "gguf": tuple(sorted(AS_LLAMA_CPP)),
    "compressed-tensors": ("gpt_neox", "llama", "opt", "phi3", "qwen2", "qwen3"),
    "bitsandbytes": ("falcon", "gpt2", "llama", "opt", "phi3", "qwen3_moe"),
}
_HEAD_IS_GROUP = ("gpt2", "gpt_neox", "opt")


@dataclass(frozen=True)
class TargetCase:
    """A model of ``config``, as pruned, and a ``target`` with the settings of a run."""

    config: PretrainedConfig
    family: Family
    target: Target

    @property
    def memory(self) -> MemoryModel:
        """Its bytes."""
        return MemoryModel(self.config, self.family, self.target)

    @property
    def skeleton(self) -> PreTrainedModel:
        """Its modules, on the meta device."""
        return separate_experts(empty_model(self.config))

    def space(self, share: float) -> SearchSpace:
        """What a search chooses from, ``share`` of the way up to most bytes."""
        memory = self.memory
        sizes = [memory.fixed_bytes + sum(pick(each.values()) for each in memory.group_bytes) for pick in (min, max)]
        return SearchSpace.of(memory, sizes[0] + int(share * (sizes[1] - sizes[0])))


@st.composite
def configs(draw: st.DrawFn, families: tuple[str, ...]) -> PretrainedConfig:
    """Dense models of ``families``, and pruned ones whose layers differ where llama.cpp has that too."""
    name = draw(st.sampled_from(families))
    groups, of_each = draw(st.sampled_from([(1, 4), (2, 2), (2, 3), (4, 1)]))
    if name in _HEAD_IS_GROUP:
        groups, of_each = groups * of_each, 1
    head = draw(st.sampled_from([16, 64]))
    overrides: dict[str, Any] = {
        "hidden_size": groups * of_each * head, "num_attention_heads": groups * of_each, "num_key_value_heads": groups,
        "intermediate_size": draw(st.sampled_from([24, 64, 96, 256, 288])), "vocab_size": draw(st.integers(300, 310)),
        **AS_LLAMA_CPP.get(name, {}),
    }  # fmt: skip
    if name in ("gemma2", "gemma3_text"):
        overrides |= {"head_dim": head, "query_pre_attn_scalar": head}
    if name in ("qwen3", "qwen3_moe"):
        overrides |= {"head_dim": head, "moe_intermediate_size": draw(st.sampled_from([16, 32]))}
    if name not in ("gemma2", "gpt_neox", "olmo2"):
        overrides |= {"tie_word_embeddings": draw(st.booleans())}
    if name == "opt":
        overrides |= {"word_embed_proj_dim": None}
    if name == "llama" and draw(st.booleans()):
        overrides |= BIASED
    if name not in DECI or not draw(st.booleans()):
        return small_config(name, **overrides)
    family, dense = find_family(name), small_config(name, **overrides | DECI[name])
    shape: list[LayerWidths | None] = [
        LayerWidths(
            num_attention_heads=kept * of_each, num_key_value_heads=kept, intermediate_size=draw(st.integers(8, 288))
        )
        for kept in (draw(st.integers(1, groups)) for _ in family.widths(dense))
    ]
    return config_with_shape(dense, family, shape, output_bias=draw(st.booleans()))


@st.composite
def target_cases(draw: st.DrawFn, name: TargetName) -> TargetCase:
    """Any model and any settings of the target ``name``."""
    config = draw(configs(_FAMILIES[name]))
    named = draw(st.just([]) | st.lists(st.sampled_from(PRECISIONS[name]), min_size=1, max_size=4, unique=True))
    allocate = AllocateConfig(
        granularity=draw(st.sampled_from(("layer", "block", "module"))),
        embeddings=draw(st.booleans()),
        precisions=tuple(named),
    )
    quantize = QuantizeConfig(double_quant=draw(st.booleans()), lora_rank=draw(st.integers(1, 4)))
    target = bind_target(name, quantize, allocate, runs_on=draw(st.sampled_from(get_args(RunsOn))))
    return TargetCase(config, find_family(config.model_type), target)


def random_weights(case: TargetCase, seed: int) -> dict[str, torch.Tensor]:
    """bfloat16 values for every parameter, by its name; tied ones once."""
    generator = torch.Generator().manual_seed(seed)
    shapes = {name: tensor.shape for name, tensor in case.skeleton.named_parameters()}
    return {name: torch.randn(shape, generator=generator).to(torch.bfloat16) for name, shape in shapes.items()}


def random_losses(space: SearchSpace, seed: int) -> list[dict[str, float]]:
    """A loss for every option of every group, no lower where it takes fewer bytes."""
    generator = random.Random(seed)
    found = []
    for group in range(len(space)):
        options = space.options(group)
        drawn = sorted((generator.expovariate(1.0) for _ in options), reverse=True)
        found.append(dict(zip(options, drawn, strict=True)))
    return found

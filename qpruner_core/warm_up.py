"""Loads everything that the first inspection of a model needs: transformers loads its parts on first use."""

from __future__ import annotations

from functools import cache
from typing import get_args

from transformers import LlamaConfig

from qpruner_core.config import CompressionConfig
from qpruner_core.models.families import find_family
from qpruner_core.models.model_config import expected_tensors
from qpruner_core.models.tensor_checks import require_fit
from qpruner_core.planner import Planner
from qpruner_core.targets.config import TargetName


@cache
def warm_up() -> None:
    """Inspect and plan a made-up model for every target, once per process; takes seconds."""
    dense = LlamaConfig(
        vocab_size=256, hidden_size=256, intermediate_size=512, num_hidden_layers=6, num_attention_heads=4,
        num_key_value_heads=4, max_position_embeddings=256,
    )  # fmt: skip
    require_fit(dense, expected_tensors(dense))
    for target in get_args(TargetName):
        config = CompressionConfig(model="made-up", dataset="made-up", memory_budget=1, target=target)
        planner = Planner(config, dense, find_family(dense.model_type))
        planner.smallest(planner.largest_ratio())

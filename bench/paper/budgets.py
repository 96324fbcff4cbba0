"""The bytes that methods are compared at."""

from __future__ import annotations

from qpruner_core.config import CompressionConfig
from qpruner_core.mixed.memory_model import MemoryModel
from qpruner_core.models import inspect_model
from qpruner_core.models.families import find_family
from qpruner_core.models.reshape import config_with_shape
from qpruner_core.planner import Planner
from qpruner_core.source_policy import SourcePolicy
from qpruner_core.targets.registry import bind_target


def part_way(config: CompressionConfig, ratio: float, share: float = 0.5) -> int:
    """A ``share`` of the way from all layers at NF4 to all at INT8, adapters and 16-bit embeddings included, of the
    model that ``config`` prunes by ``ratio``; its layout must be one whose shape follows from the ratio alone."""
    dense = inspect_model(config.model, SourcePolicy()).config
    family = find_family(dense.model_type)
    planner = Planner(config, dense, family)
    assert planner.shape_is_known
    pruned = config_with_shape(dense, family, planner.shape(ratio))
    settings = config.allocate.model_copy(
        update={"precisions": ("nf4", "int8"), "granularity": "layer", "embeddings": False}
    )
    memory = MemoryModel(pruned, family, bind_target("bitsandbytes", config.quantize, settings))
    groups = len(memory.groups)
    least, most = (memory.total([precision] * groups) for precision in ("nf4", "int8"))
    return least + int(share * (most - least))


def without_limit(model: str) -> int:
    """The largest budget that the pipeline takes: below it, only a method's precisions decide on its bytes."""
    dense = inspect_model(model, SourcePolicy()).config
    family = find_family(dense.model_type)
    empty = CompressionConfig(model=model, dataset="none", memory_budget=1, target="bitsandbytes")
    target = bind_target(empty.target, empty.quantize, empty.allocate)
    size: int = MemoryModel(dense, family, target).dense_bytes
    return size - 1

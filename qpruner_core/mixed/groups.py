"""Which modules share one precision: what an allocation has one number of bits for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import nn
from transformers import PreTrainedModel

from qpruner_core.allocate.config import AllocateConfig
from qpruner_core.models.families import Family

EMBEDDINGS = "embeddings"
HEAD = "head"
_EMBEDDING_OPTIONS = (8, 16)


@dataclass(frozen=True)
class PrecisionGroup:
    """Modules (full names) that have the same bits. ``layer``: where they are, ``None`` outside the layers.
    ``options``: the bits they may have, rising."""

    name: str
    layer: int | None
    modules: tuple[str, ...]
    options: tuple[int, ...]


def precision_groups(model: PreTrainedModel, family: Family, settings: AllocateConfig) -> list[PrecisionGroup]:
    """The groups of ``model`` (its weights may be on the meta device), first layer to last, then the embeddings and,
    where it has weights of its own, the head."""
    groups = [
        PrecisionGroup(name, layer, modules, settings.precisions)
        for layer in range(len(family.decoder_layers(model)))
        for name, modules in _parts(linear_names(model, family, layer), family, layer, settings.granularity).items()
    ]
    if settings.embeddings:
        groups += [
            PrecisionGroup(name, None, (module,), _EMBEDDING_OPTIONS) for name, module in embedding_names(model).items()
        ]
    return groups


def linear_names(model: nn.Module, family: Family, layer: int) -> list[str]:
    """Full module names of the linear modules of ``layer``."""
    name = f"{family.layers}.{layer}"
    return [f"{name}.{path}" for path in family.linear_paths(model.get_submodule(name))]


def embedding_names(model: PreTrainedModel) -> dict[str, str]:
    """Full names of the input embeddings and, unless it is tied to them, of the head."""
    embeddings, head = model.get_input_embeddings(), model.get_output_embeddings()
    found = {EMBEDDINGS: embeddings}
    if head is not None and head.weight is not embeddings.weight:
        found[HEAD] = head
    names = {id(module): name for name, module in model.named_modules()}
    return {group: names[id(module)] for group, module in found.items()}


def bits_by_module(groups: Sequence[PrecisionGroup], bits: Sequence[int]) -> dict[str, int]:
    """The allocation ``bits`` (one number a group) as bits of each module."""
    return {name: bit for group, bit in zip(groups, bits, strict=True) for name in group.modules}


def _parts(modules: list[str], family: Family, layer: int, granularity: str) -> dict[str, tuple[str, ...]]:
    """The modules of one layer by the group that they belong to."""
    parts: dict[str, tuple[str, ...]] = {}
    for module in modules:
        path = module.removeprefix(f"{family.layers}.{layer}.")
        block = "mlp" if any("channel" in axis for axis in family.linears[path]) else "attention"
        part = {"layer": "", "block": f".{block}", "module": f".{path}"}[granularity]
        name = f"layers.{layer}{part}"
        parts[name] = (*parts.get(name, ()), module)
    return parts

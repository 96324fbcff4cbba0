"""Groups of modules that share one precision: the units of an allocation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import nn
from transformers import PreTrainedModel

from qpruner_core.models.families import EVERY, Family, linear_shape
from qpruner_core.precision_names import size_order
from qpruner_core.targets.base import Shape, Target

EMBEDDINGS = "embeddings"
HEAD = "head"


@dataclass(frozen=True)
class PrecisionGroup:
    """Modules (full names) that share one precision of an allocation, and the shape of each, in order.

    ``layer``: their decoder layer, ``None`` outside the layers. ``options``: the allowed precisions, by ascending size,
    each with the precision of every module, in order: the same, or the one that the target stores this shape in.
    """

    name: str
    layer: int | None
    modules: tuple[str, ...]
    shapes: tuple[Shape, ...]
    options: Mapping[str, tuple[str, ...]]


def precision_groups(model: PreTrainedModel, family: Family, target: Target) -> list[PrecisionGroup]:
    """The groups of ``model`` (its weights may be on the meta device), first layer to last, then the embeddings and, if
    untied, the head; the last two only if they have a choice."""

    found = dict(model.named_modules(remove_duplicate=False))  # by name, one after another, takes long for many experts

    def group(name: str, layer: int | None, modules: tuple[str, ...], options: Sequence[str]) -> PrecisionGroup:
        shapes = tuple(module_shape(found[module]) for module in modules)
        return PrecisionGroup(name, layer, modules, shapes, target.group_options(shapes, options, modules))

    groups = [
        group(name, layer, modules, target.options)
        for layer in range(len(family.decoder_layers(model)))
        for name, modules in _parts(linear_names(model, family, layer), family, layer, target).items()
    ]
    outside = [
        group(name, None, (module,), target.embedding_options) for name, module in embedding_names(model).items()
    ]
    return groups + [one for one in outside if len(target.embedding_options) > 1]


def module_shape(module: nn.Module) -> Shape:
    """Outputs and inputs of a linear module; rows and columns of an embedding."""
    if isinstance(module, nn.Embedding):
        return module.num_embeddings, module.embedding_dim
    return linear_shape(module)


def linear_names(model: nn.Module, family: Family, layer: int) -> list[str]:
    """Full module names of the linear modules of ``layer``."""
    name = f"{family.layers}.{layer}"
    return [f"{name}.{path}" for path in family.linear_paths(model.get_submodule(name))]


def adapted_names(model: nn.Module, family: Family, layer: int) -> list[str]:
    """Those of :func:`linear_names` that adapters apply to: all but the experts'."""
    name = f"{family.layers}.{layer}"
    return [f"{name}.{path}" for path in family.adapted_paths(model.get_submodule(name))]


def is_of_expert(name: str, family: Family) -> bool:
    """Whether the linear module ``name`` (full name) of a layer belongs to one of its experts."""
    _, _, path = name.removeprefix(f"{family.layers}.").partition(".")
    return EVERY in family.declared_path(path)


def embedding_names(model: PreTrainedModel) -> dict[str, str]:
    """Full names of the input embeddings and, unless it is tied to them, of the head."""
    embeddings, head = model.get_input_embeddings(), model.get_output_embeddings()
    found = {EMBEDDINGS: embeddings}
    if head is not None and head.weight is not embeddings.weight:
        found[HEAD] = head
    names = {id(module): name for name, module in model.named_modules()}
    return {group: names[id(module)] for group, module in found.items()}


def precision_by_module(groups: Sequence[PrecisionGroup], allocation: Sequence[str]) -> dict[str, str]:
    """The precision of each module under ``allocation`` (one option per group)."""
    return {
        name: precision
        for group, option in zip(groups, allocation, strict=True)
        for name, precision in zip(group.modules, group.options[option], strict=True)
    }


def stored_by_group(groups: Sequence[PrecisionGroup], allocation: Sequence[str]) -> list[list[str]]:
    """Precisions that the modules of each group are stored in under ``allocation``, without duplicates, by ascending
    size: the option, unless the engine cannot store a module's shape in it."""
    return [
        sorted(set(group.options[option]), key=size_order) for group, option in zip(groups, allocation, strict=True)
    ]


def _parts(modules: list[str], family: Family, layer: int, target: Target) -> dict[str, tuple[str, ...]]:
    """The modules of one layer by group."""
    fused = {
        path: "+".join(path for path in family.linears if path in paths)
        for paths in target.together(family)
        for path in paths
    }
    parts: dict[str, tuple[str, ...]] = {}
    for module in modules:
        path = family.declared_path(module.removeprefix(f"{family.layers}.{layer}."))
        mlp = EVERY in path or any("channel" in axis for axis in family.linears[path])
        block, path = "mlp" if mlp else "attention", path.replace(f".{EVERY}", "")
        part = {"layer": "", "block": f".{block}", "module": f".{fused.get(path, path)}"}[target.granularity]
        name = f"layers.{layer}{part}"
        parts[name] = (*parts.get(name, ()), module)
    return parts

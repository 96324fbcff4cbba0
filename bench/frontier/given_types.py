"""Allocations that are given rather than searched: the types of the tensors of another tool's GGUF file, and back."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from qpruner_core.models.families import find_family
from qpruner_core.models.gguf.split import read_model
from qpruner_core.search.allocation import ALLOCATION, AllocationResult
from qpruner_core.targets.gguf.reader import described_model

_EMBEDDINGS = "embeddings"


def groups_of_tensors(dense: Path) -> dict[str, str]:
    """For the tensors of the GGUF file ``dense``: the name of the group of an allocation by modules that each is."""
    model = read_model(dense)
    declared, config = described_model(model)
    family = find_family(config.model_type)
    found = {"token_embd.weight": _EMBEDDINGS}
    for layer in range(config.num_hidden_layers):
        for path in family.linears:
            for stored in declared.stored_names(f"{family.layers}.{layer}.{path}.weight"):
                found[stored] = f"layers.{layer}.{path}"
    return {tensor: group for tensor, group in found.items() if tensor in model.tensors}


def settings_for(types: Mapping[str, str], dense: Path) -> dict[str, Any]:
    """Settings of a run that can hold ``types`` (of tensors), and ``types`` by its groups for :func:`give_types`."""
    groups = groups_of_tensors(dense)
    by_group = {groups[tensor]: kind for tensor, kind in types.items() if tensor in groups}
    precisions = sorted(set(by_group.values()))
    allocate = {"granularity": "module", "precisions": precisions, "search": "knapsack"}
    return {"allocate": allocate, "types": by_group}


def give_types(work: Path, types: Mapping[str, str]) -> None:
    """Put ``types`` (by group) in place of what the finished stage ``allocate`` of the run in ``work`` chose."""
    file = work / "allocate" / ALLOCATION
    result = AllocationResult.model_validate_json(file.read_bytes())
    best = result.best.model_copy(update={"precisions": tuple(types[group] for group in result.groups)})
    given = result.model_copy(update={"best": best})
    file.write_text(given.model_dump_json(indent=1) + "\n", encoding="utf-8")


def tensor_type_lines(types: Mapping[str, str]) -> str:
    """``types`` (of tensors) as ``llama-quantize --tensor-type-file`` reads them: patterns of regular expressions."""
    quantized = {name: kind for name, kind in types.items() if kind != "f32"}
    return "".join(f"^{name.replace('.', chr(92) + '.')}$={kind}\n" for name, kind in quantized.items())

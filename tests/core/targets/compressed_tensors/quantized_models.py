"""Small models whose widths the format accepts, each fused group at a precision of its own, and 16 bits among them."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from itertools import cycle
from pathlib import Path

import torch
from transformers import PreTrainedModel

from qpruner_core.models.families import Family, family_names, find_family
from qpruner_core.models.reshape import Shape
from qpruner_core.targets.compressed_tensors import (
    UNQUANTIZED,
    encode_model,
    fitting,
    read_compressed_tensors,
    supports,
    write_compressed_tensors,
)
from qpruner_core.targets.compressed_tensors.support import fused_modules
from tests.core.models.families.pruned_models import pruned
from tests.core.small_models import small_config, small_model

SUPPORTED = [name for name in family_names() if supports(small_config(name)) is None]
MIX = ("int4_g64", UNQUANTIZED, "int8_channel")
IDS = "ids.pt"
StockLogits = dict[str, torch.Tensor | str]
"""Name of a checkpoint -> logits, or what went wrong."""

_SCRIPT = Path(__file__).with_name("load_in_stock.py")

SIZES = {
    "hidden_size": 128, "num_attention_heads": 4, "num_key_value_heads": 2, "intermediate_size": 192, "head_dim": 32,
    "vocab_size": 300, "max_position_embeddings": 256, "num_hidden_layers": 3, "query_pre_attn_scalar": 32,
    "layer_types": None, "no_rope_layers": None, "mlp_only_layers": [1],
}  # fmt: skip


def uniform_model(model_type: str, **overrides: object) -> tuple[PreTrainedModel, Family]:
    """The family's small model in bfloat16."""
    family = find_family(model_type)
    sizes = dict(SIZES)
    if not family.explicit_head_dim:
        sizes.pop("head_dim")
    for name, own in (("layer_types", "gemma"), ("query_pre_attn_scalar", "gemma"), ("mlp_only_layers", "moe")):
        if own not in model_type:
            sizes.pop(name)
    if model_type != "smollm3":
        sizes.pop("no_rope_layers")
    return small_model(model_type, dtype=torch.bfloat16, **sizes | overrides), family


def uneven_model(model_type: str) -> tuple[PreTrainedModel, Family]:
    """The same with layers that differ in heads and MLP width, all multiples of 32."""
    model, family = uniform_model(model_type)
    shape: Shape = []
    for index, widths in enumerate(family.widths(model.config)):
        groups = widths.num_key_value_heads - index % 2
        per_group = widths.num_attention_heads // widths.num_key_value_heads
        changes = {"num_key_value_heads": groups, "num_attention_heads": groups * per_group}
        shape.append(widths.model_copy(update=changes | {"intermediate_size": widths.intermediate_size - 64 * index}))
    return pruned(model, family, shape), family


def uneven_mlps(model_type: str, **overrides: object) -> tuple[PreTrainedModel, Family]:
    """The same with MLPs alone of different widths."""
    model, family = uniform_model(model_type, **overrides)
    shape: Shape = [
        widths.model_copy(update={"intermediate_size": widths.intermediate_size - 64 * (index % 2)})
        for index, widths in enumerate(family.widths(model.config))
    ]
    return pruned(model, family, shape), family


def units(model: PreTrainedModel, family: Family) -> list[tuple[str, ...]]:
    """The modules of the layers, those together that share a precision."""
    found: list[tuple[str, ...]] = []
    for index, layer in enumerate(family.decoder_layers(model)):
        name = f"{family.layers}.{index}"
        fused = fused_modules(family, layer, name)
        taken = {module for group in fused for module in group}
        paths = [f"{name}.{path}" for path in family.linear_paths(layer)]
        found += [*fused, *((path,) for path in paths if path not in taken)]
    return found


def precisions_in_turn(model: PreTrainedModel, family: Family, names: Sequence[str] = MIX) -> dict[str, str]:
    """The precision of every linear module of the layers: ``names`` in turn, or what fits its place."""
    found: dict[str, str] = {}
    for group, name in zip(units(model, family), cycle(names), strict=False):
        shapes = [tuple(model.get_submodule(module).weight.shape) for module in group]
        found |= dict.fromkeys(group, fitting(name, shapes))
    return found


def write(directory: Path, model_type: str, *, uneven: bool = False, names: Sequence[str] = MIX) -> None:
    """A checkpoint of the family's model with the precisions ``names`` in turn."""
    model, family = (uneven_model if uneven else uniform_model)(model_type)
    precision = precisions_in_turn(model, family, names)
    tensors = encode_model(model, precision)
    write_compressed_tensors(directory, config=model.config, family=family, tensors=tensors, precision=precision)


def write_ids(directory: Path) -> None:
    """Put ids that are no special tokens beside the checkpoints of ``directory``."""
    torch.save(torch.randint(3, 290, (2, 24), generator=torch.Generator().manual_seed(0)), directory / IDS)


def our_logits(directory: Path, name: str) -> torch.Tensor:
    """What the checkpoint ``name`` computes as it is read back."""
    with torch.no_grad():
        found: torch.Tensor = read_compressed_tensors(directory / name)(torch.load(directory / IDS)).logits
    return found


def stock_logits(directory: Path, place: Path) -> StockLogits:
    """What a process in ``place``, in which our package cannot be imported, makes of all checkpoints."""
    done = subprocess.run(
        [sys.executable, "-I", str(_SCRIPT), str(directory), str(place / "answers.pt")],
        cwd=place, env={"PATH": "", "HF_HOME": str(place / "hf")}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    answers: StockLogits = torch.load(place / "answers.pt")
    return answers

"""The same function with other weights, for models whose published weights lie on a grid of some 4-bit format.

Rounding such a model again to a format of that grid costs next to nothing, so that no comparison on it says anything.
Random channel scales that cancel (a norm and the linear modules behind it, up and down, value and output) leave the
function as it is, but for rounding to bfloat16, and give ordinary weights. The embeddings stay as they are: tied to the
head and read by the residual stream, their channels have no partner. Both models' sources hold them in 8 bits.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel

from qpruner_core.models import load_model, resolve_model
from qpruner_core.models.checkpoint_writer import write_model
from qpruner_core.models.families import family_of
from qpruner_core.models.model_config import CONFIG_FILE, read_config
from qpruner_core.models.shards import StoredTensors
from qpruner_core.source_policy import SourcePolicy
from qpruner_core.targets.gguf import write_gguf

DEMO_MODEL = "demo:smollm2-135m-instruct"
OFF_GRID = "smollm2-135m-instruct-off-grid"
"""What benchmarks call the model that :func:`off_grid_model` writes."""

_LOWEST, _HIGHEST = 0.7, 1.4
_ADDED_TO_NORMS = {"gemma3_text": 1.0}
"""What a family's norms add to their weight before they multiply by it."""
_Q4_BLOCK, _Q4_LEVELS = 32, 15


def off_grid_model(directory: Path) -> Path:
    """The demo's model, rescaled so that its weights lie on no grid, written to ``directory`` unless it is there."""
    if not directory.is_dir():
        partial = directory.with_name(f"{directory.name}.{os.getpid()}")
        write_off_grid(resolve_model(DEMO_MODEL, SourcePolicy()).directory, partial)
        partial.rename(directory)
    return directory


def write_off_grid(source: Path, directory: Path, *, seed: int = 0) -> None:
    """Write the Llama or Gemma 3 of ``source`` to ``directory`` with random channel scales that cancel."""
    model = load_model(source)
    scale_channels(model.float(), seed)
    write_model(model.to(torch.bfloat16), family_of(model), directory, tokenizer_from=source)


def write_dense_gguf(checkpoint: Path, file: Path) -> None:
    """Write ``checkpoint`` as the GGUF ``file``, whole or not at all."""
    partial = file.with_suffix(".part")
    with StoredTensors(checkpoint) as stored:
        weights = {name: stored.get(name) for name in stored.names()}
        config = read_config(checkpoint / CONFIG_FILE)
        write_gguf(partial, config=config, weights=weights, tokenizer_directory=checkpoint)
    partial.replace(file)


@torch.no_grad()
def scale_channels(model: PreTrainedModel, seed: int) -> None:
    """Scale channels of a Llama or a Gemma 3, in place."""
    generator = torch.Generator().manual_seed(seed)
    added = _ADDED_TO_NORMS.get(model.config.model_type, 0.0)

    def scales(count: int) -> torch.Tensor:
        return torch.empty(count).uniform_(_LOWEST, _HIGHEST, generator=generator)

    for layer in model.model.layers:
        attention, mlp = layer.self_attn, layer.mlp
        for norm, linears in _readers(layer).items():
            scale = scales(len(norm.weight))
            norm.weight.copy_((norm.weight + added) / scale - added)
            for linear in linears:
                linear.weight *= scale
        scale = scales(len(mlp.up_proj.weight))
        mlp.up_proj.weight *= scale.unsqueeze(1)
        mlp.down_proj.weight /= scale
        scale = scales(len(attention.v_proj.weight))
        attention.v_proj.weight *= scale.unsqueeze(1)
        groups = attention.o_proj.weight.shape[1] // len(scale)
        attention.o_proj.weight /= scale.view(-1, attention.head_dim).repeat_interleave(groups, dim=0).flatten()


def _readers(layer: Any) -> Mapping[Any, Sequence[nn.Linear]]:
    """The linear modules behind each norm whose outputs nothing else reads.

    Gemma's norms of queries and keys, and those behind attention and MLP, have no such partner: what follows them is
    no linear module.
    """
    attention, mlp = layer.self_attn, layer.mlp
    before_mlp = getattr(layer, "pre_feedforward_layernorm", None) or layer.post_attention_layernorm
    return {
        layer.input_layernorm: (attention.q_proj, attention.k_proj, attention.v_proj),
        before_mlp: (mlp.gate_proj, mlp.up_proj),
    }


@torch.no_grad()
def q4_error(weight: torch.Tensor) -> float:
    """Relative error of rounding ``weight [rows, columns]`` to 16 levels between the least and the greatest value of
    each 32 inputs (ggml's Q4_1, without its rounding of the two to float16)."""
    blocks = weight.float().reshape(-1, _Q4_BLOCK)
    low = blocks.amin(dim=1, keepdim=True)
    step = ((blocks.amax(dim=1, keepdim=True) - low) / _Q4_LEVELS).clamp(min=1e-12)
    rounded = ((blocks - low) / step).round() * step + low
    return float((rounded - blocks).norm() / blocks.norm())

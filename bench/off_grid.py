"""The same function with other weights, for models whose published weights lie on a grid of some 4-bit format.

Rounding such a model again to a format of that grid costs next to nothing, so that no comparison on it says anything.
Random channel scales that cancel (a norm and the linear modules behind it, up and down, value and output) leave the
function as it is, but for rounding to bfloat16, and give ordinary weights.
"""

from __future__ import annotations

from pathlib import Path

import torch
from transformers import PreTrainedModel

from qpruner_core.models import load_model
from qpruner_core.models.checkpoint_writer import write_model
from qpruner_core.models.families import family_of

_LOWEST, _HIGHEST = 0.7, 1.4


def write_off_grid(source: Path, directory: Path, *, seed: int = 0) -> None:
    """Write the Llama of ``source`` to ``directory`` with random channel scales that cancel."""
    model = load_model(source)
    scale_channels(model.float(), seed)
    write_model(model.to(torch.bfloat16), family_of(model), directory, tokenizer_from=source)


@torch.no_grad()
def scale_channels(model: PreTrainedModel, seed: int) -> None:
    """Scale channels of a Llama, in place."""
    generator = torch.Generator().manual_seed(seed)

    def scales(count: int) -> torch.Tensor:
        return torch.empty(count).uniform_(_LOWEST, _HIGHEST, generator=generator)

    for layer in model.model.layers:
        attention, mlp = layer.self_attn, layer.mlp
        behind = {
            layer.input_layernorm: (attention.q_proj, attention.k_proj, attention.v_proj),
            layer.post_attention_layernorm: (mlp.gate_proj, mlp.up_proj),
        }
        for norm, linears in behind.items():
            scale = scales(len(norm.weight))
            norm.weight /= scale
            for linear in linears:
                linear.weight *= scale
        scale = scales(len(mlp.up_proj.weight))
        mlp.up_proj.weight *= scale.unsqueeze(1)
        mlp.down_proj.weight /= scale
        scale = scales(len(attention.v_proj.weight))
        attention.v_proj.weight *= scale.unsqueeze(1)
        groups = attention.o_proj.weight.shape[1] // len(scale)
        attention.o_proj.weight /= scale.view(-1, attention.head_dim).repeat_interleave(groups, dim=0).flatten()

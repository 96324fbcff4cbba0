"""A model whose weights lie on no quantization grid, and which computes what the given one does.

The demo's SmolLM2 comes from a Q4_1 file: rounding it to 4 bits again costs next to nothing, so comparisons of 4-bit
formats on it say nothing. Here each channel of the norms' outputs, of up/down and of value/output is multiplied by a
random factor and what reads it divided by the same.
"""

from __future__ import annotations

import torch
from torch import nn
from transformers import PreTrainedModel

LOWEST, HIGHEST = 0.7, 1.4


@torch.no_grad()
def take_off_grid(model: PreTrainedModel, *, seed: int = 0) -> None:
    """Rescale a Llama ``model`` (or one with the same modules) in place, by factors between 0.7 and 1.4."""
    generator = torch.Generator().manual_seed(seed)
    config = model.config
    groups = config.num_attention_heads // config.num_key_value_heads
    for layer in model.model.layers:
        attention, mlp = layer.self_attn, layer.mlp
        _scale_norm(layer.input_layernorm, (attention.q_proj, attention.k_proj, attention.v_proj), generator)
        _scale_norm(layer.post_attention_layernorm, (mlp.gate_proj, mlp.up_proj), generator)
        channels = _factors(mlp.up_proj.out_features, generator)
        _scale_rows(mlp.up_proj, channels)
        _divide_columns(mlp.down_proj, channels)
        values = _factors(attention.v_proj.out_features, generator)
        _scale_rows(attention.v_proj, values)
        heads = values.view(config.num_key_value_heads, -1).repeat_interleave(groups, dim=0).flatten()
        _divide_columns(attention.o_proj, heads)


def _factors(count: int, generator: torch.Generator) -> torch.Tensor:
    return torch.empty(count).uniform_(LOWEST, HIGHEST, generator=generator)


def _scale_norm(norm: nn.Module, readers: tuple[nn.Linear, ...], generator: torch.Generator) -> None:
    weight = norm.weight
    assert isinstance(weight, torch.Tensor)
    factors = _factors(len(weight), generator)
    weight.copy_(weight.float() * factors)
    for reader in readers:
        _divide_columns(reader, factors)


def _scale_rows(linear: nn.Linear, factors: torch.Tensor) -> None:
    linear.weight.copy_(linear.weight.float() * factors.unsqueeze(1))
    if linear.bias is not None:
        linear.bias.copy_(linear.bias.float() * factors)


def _divide_columns(linear: nn.Linear, factors: torch.Tensor) -> None:
    linear.weight.copy_(linear.weight.float() / factors)

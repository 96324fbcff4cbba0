"""Layouts of tensors in a GGUF file, inverted: the converse of llama.cpp's ``convert_hf_to_gguf.py``.

A layout takes a stored tensor (vectors in 32-bit floating point, which their arithmetic needs) and the config.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from transformers import PretrainedConfig

Layout = Callable[[torch.Tensor, PretrainedConfig], torch.Tensor]


def as_stored(tensor: torch.Tensor, _: PretrainedConfig) -> torch.Tensor:
    """The identity."""
    return tensor


def minus_one(tensor: torch.Tensor, _: PretrainedConfig) -> torch.Tensor:
    """The norms of Gemma, which multiply by one more than their weight."""
    return tensor - 1


def transposed(tensor: torch.Tensor, _: PretrainedConfig) -> torch.Tensor:
    """GPT-2's ``Conv1D``, whose weight has the inputs first."""
    return tensor.T.contiguous()


def query_halves(tensor: torch.Tensor, config: PretrainedConfig) -> torch.Tensor:
    """Query rows with adjacent rotary pairs, back to two halves per head."""
    return _halves(tensor, config.num_attention_heads)


def key_halves(tensor: torch.Tensor, config: PretrainedConfig) -> torch.Tensor:
    """Key rows, like :func:`query_halves`."""
    return _halves(tensor, config.num_key_value_heads)


def paired_stack(tensor: torch.Tensor, config: PretrainedConfig) -> torch.Tensor:
    """Stacked queries, keys and values, the first two like :func:`query_halves` and :func:`key_halves`."""
    heads, groups = config.num_attention_heads, config.num_key_value_heads
    width = tensor.shape[0] // (heads + 2 * groups)
    queries, keys, values = tensor.split([heads * width, groups * width, groups * width])
    return torch.cat([_halves(queries, heads), _halves(keys, groups), values])


def neox_heads(tensor: torch.Tensor, config: PretrainedConfig) -> torch.Tensor:
    """All queries, all keys, all values, back to query, key and value of each head in turn (GPT-NeoX)."""
    return tensor.reshape(3, config.num_attention_heads, -1, *tensor.shape[1:]).transpose(0, 1).reshape(tensor.shape)


def falcon_groups(tensor: torch.Tensor, config: PretrainedConfig) -> torch.Tensor:
    """All queries, all keys, all values, back to the queries, the key and the value of each group in turn."""
    heads = config.num_attention_heads
    groups = config.num_kv_heads if config.new_decoder_architecture else 1
    width = config.hidden_size // heads
    rest = tensor.shape[1:]
    queries, keys, values = tensor.split([heads * width, groups * width, groups * width])
    rows = [queries.reshape(groups, -1, *rest), keys.reshape(groups, -1, *rest), values.reshape(groups, -1, *rest)]
    return torch.cat(rows, dim=1).reshape(tensor.shape)


def stored_rows(layout: Layout, rows: int, config: PretrainedConfig) -> torch.Tensor:
    """Source row of each row of the file, for a tensor of ``rows``: int64 ``[rows]``, the converse of ``layout``.

    Only for layouts that move whole rows, so that rows of any format can be moved.
    """
    return layout(torch.arange(rows), config).argsort()


def _halves(tensor: torch.Tensor, heads: int) -> torch.Tensor:
    rows = tensor.reshape(heads, -1, 2, *tensor.shape[1:])
    return rows.transpose(1, 2).reshape(tensor.shape)

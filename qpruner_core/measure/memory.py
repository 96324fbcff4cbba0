"""Actual bytes of a loaded model."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import nn


def loaded_bytes(model: nn.Module) -> int:
    """Bytes of all distinct storages of ``model``: parameters, buffers and quantization state."""
    storages = {tensor.untyped_storage().data_ptr(): tensor.untyped_storage().nbytes() for tensor in _tensors(model)}
    return sum(storages.values())


def _tensors(model: nn.Module) -> Iterator[torch.Tensor]:
    yield from model.parameters()
    yield from model.buffers()
    for module in model.modules():
        weight = getattr(module, "weight", None)
        eight_bit = getattr(module, "state", None)
        for holder in (weight, eight_bit):
            for name in ("CB", "SCB"):
                if isinstance(tensor := getattr(holder, name, None), torch.Tensor):
                    yield tensor
        state = getattr(weight, "quant_state", None)
        while state is not None:
            yield from (part for part in (state.absmax, state.code, state.offset) if isinstance(part, torch.Tensor))
            state = state.state2

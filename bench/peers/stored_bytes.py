"""Bytes that a model keeps, whatever the tool that stores it: PyTorch's tensor subclasses, and tensors in plain
attributes of modules or in dictionaries of these, are counted by the storages behind them."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import nn
from torch.utils._python_dispatch import is_traceable_wrapper_subclass


def stored_bytes(model: nn.Module) -> int:
    """Bytes of all distinct storages of ``model``; those of tied weights once."""
    storages = [tensor.untyped_storage() for tensor in stored_tensors(model)]
    return sum({storage.data_ptr(): storage.nbytes() for storage in storages}.values())


def stored_tensors(model: nn.Module) -> Iterator[torch.Tensor]:
    """Every plain tensor that ``model`` keeps; one that is kept in several places comes several times."""
    for module in model.modules():
        for value in (*module._parameters.values(), *module._buffers.values(), *vars(module).values()):
            yield from _plain(value)


def _plain(value: object) -> Iterator[torch.Tensor]:
    if isinstance(value, torch.Tensor):
        if not is_traceable_wrapper_subclass(value):
            yield value.data
            return
        for name in value.__tensor_flatten__()[0]:
            yield from _plain(getattr(value, name))
    elif type(value) is dict:  # modules, hooks and parameters are in dictionaries of other kinds or found on their own
        for item in value.values():
            if not isinstance(item, nn.Module):
                yield from _plain(item)

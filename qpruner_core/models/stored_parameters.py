"""Put tensors of a checkpoint into a model, with errors for mismatches."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from qpruner_core.errors import CorruptModelError


def set_parameter(model: nn.Module, name: str, value: torch.Tensor, directory: Path) -> None:
    """Set the parameter ``name`` of ``model``, which may be on the meta device, to the ``value`` read from
    ``directory``.

    Raises:
        CorruptModelError: the model has no such parameter, or one of another shape.
    """
    module, _, parameter = name.rpartition(".")
    try:
        old = model.get_parameter(name)
    except AttributeError:
        raise damaged(directory, f"config.json does not describe {name}") from None
    if old.shape != value.shape:
        raise damaged(directory, f"{name} does not have the shape of config.json")
    setattr(model.get_submodule(module), parameter, nn.Parameter(value, requires_grad=False))


def damaged(directory: Path, what: str) -> CorruptModelError:
    """The error of a damaged checkpoint in ``directory``; ``what``: the damage."""
    return CorruptModelError(
        f"The checkpoint in {directory} is damaged: {what}.", field="model", remedy="Download the checkpoint again."
    )
